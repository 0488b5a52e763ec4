#!/usr/bin/env node
// Asks the model in this folder a question:  node answer.mjs "What can you do?"
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

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

const { AutoModelForCausalLM, AutoTokenizer, TextStreamer, env } = await library();
env.allowRemoteModels = false;
env.useFSCache = false;
const folder = join(here, "model");
if (!existsSync(folder)) stop(`there is no model at ${folder}`, 1);

const tokenizer = await AutoTokenizer.from_pretrained(folder);
const model = await AutoModelForCausalLM.from_pretrained(folder, { dtype, device: "cpu" });
const messages = [{ role: "user", content: question }];
if (values.system) messages.unshift({ role: "system", content: values.system });
const inputs = about.chat
  ? tokenizer.apply_chat_template(messages, { add_generation_prompt: true, return_dict: true })
  : tokenizer(question);

let answer = "";
let first;
let n = 0;
const streamer = new TextStreamer(tokenizer, {
  skip_prompt: true,
  skip_special_tokens: true,
  clean_up_tokenization_spaces: false,
  token_callback_function: () => {
    first ??= performance.now();
    n += 1;
  },
  callback_function: (text) => {
    answer += text;
    if (!values.json) process.stdout.write(text);
  },
});
await model.generate({ ...inputs, max_new_tokens: limit, do_sample: false, streamer });
const speed = n > 1 ? ((n - 1) * 1000) / (performance.now() - first) : 0;
if (values.json) {
  console.log(JSON.stringify({ answer, tokens: n, tokens_per_second: speed }));
} else {
  process.stdout.write("\n");
  console.error(`${n} tokens, ${speed.toFixed(1)} a second (${dtype})`);
}
