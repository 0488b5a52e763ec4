#!/usr/bin/env node
// Asks the model in this folder a question:  node answer.mjs "What can you do?"
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { generate } from "./generate.js";

const here = dirname(fileURLToPath(import.meta.url));
const usage = `usage: node answer.mjs [--system TEXT] [--dtype NAME] [--max-tokens N] [--json] QUESTION
  QUESTION may also come from stdin. The answer goes to stdout, how fast it was to stderr.`;

function stop(text, code = 2) {
  console.error(text);
  process.exit(code);
}

function read() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        system: { type: "string" },
        dtype: { type: "string" },
        "max-tokens": { type: "string", default: "256" },
        json: { type: "boolean", default: false },
        help: { type: "boolean", short: "h", default: false },
      },
    });
  } catch (error) {
    return stop(`${error.message}\n${usage}`);
  }
}

async function piped() {
  if (process.stdin.isTTY) return "";
  let text = "";
  for await (const part of process.stdin) text += part;
  return text;
}

async function library() {
  try {
    return await import("@huggingface/transformers");
  } catch {
    return stop(`Transformers.js is not installed here. To get it:\n  cd ${here} && npm ci --ignore-scripts`, 1);
  }
}

const { values, positionals } = read();
if (values.help) stop(usage, 0);
const question = (positionals.join(" ") || (await piped())).trim();
const limit = Number(values["max-tokens"]);
if (!question || !Number.isInteger(limit) || limit < 1) stop(usage);

const about = JSON.parse(await readFile(join(here, "page.json"), "utf8"));
const dtype = values.dtype ?? about.variants[0].dtype;
if (!about.variants.some((one) => one.dtype === dtype)) {
  stop(`there is no ${dtype} here, but: ${about.variants.map((one) => one.dtype).join(", ")}`);
}

const { AutoModelForCausalLM, AutoTokenizer, env } = await library();
env.allowRemoteModels = false;
env.useFSCache = false;
const folder = join(here, "model");
if (!existsSync(folder)) stop(`there is no model at ${folder}`, 1);

const tokenizer = await AutoTokenizer.from_pretrained(folder);
const model = await AutoModelForCausalLM.from_pretrained(folder, { dtype, device: "cpu" });
const one = { tokenizer, model, about: { ...about, system: values.system ?? about.system } };

let shown = 0;
function hear({ text }) {
  if (!values.json) process.stdout.write(text.slice(shown));
  shown = text.length;
}
const { text, tokens, speed } = await generate(one, [{ role: "user", content: question }], { limit, hear }).catch(
  (error) => stop(error.message, 1),
);
if (values.json) {
  console.log(JSON.stringify({ answer: text, tokens, tokens_per_second: speed }));
} else {
  process.stdout.write("\n");
  console.error(`${tokens} tokens, ${speed.toFixed(1)} a second (${dtype})`);
}
