// A model that answers questions on stdin, one JSON object a line, with one JSON object a line on stdout.
// Arguments: the file of Transformers.js, the folder that holds model/, the dtype.
import { createInterface } from "node:readline";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [library, folder, dtype] = process.argv.slice(2);
const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

// What the library logs must not run into the answers.
console.log = console.info = console.warn = console.debug = console.error;

const { AutoModelForCausalLM, AutoTokenizer, Tensor, env } = await import(pathToFileURL(resolve(library)).href);
env.allowRemoteModels = false;
env.useFSCache = false;

const tokenizer = await AutoTokenizer.from_pretrained(resolve(folder), {});
const model = await AutoModelForCausalLM.from_pretrained(resolve(folder), { dtype, device: "cpu" });
say({ ready: true, version: env.version });

function tensor(ids) {
  return new Tensor("int64", BigInt64Array.from(ids, BigInt), [1, ids.length]);
}

function inputsOf(ids) {
  return { input_ids: tensor(ids), attention_mask: tensor(ids.map(() => 1)) };
}

function encode(text, raw) {
  return tokenizer.encode(text, { add_special_tokens: raw });
}

/** The `top` likeliest next tokens as [id, log-probability], likeliest first; those of `never` do not come. */
async function logprobs({ ids, top, never }) {
  const one = new Tensor("int64", [1n], []);
  const { logits } = await model({ ...inputsOf(ids), num_logits_to_keep: one });
  const last = logits.to("float32").data.slice(-logits.dims.at(-1));
  for (const id of never) last[id] = -Infinity;
  let highest = -Infinity;
  for (const value of last) highest = Math.max(highest, value);
  let sum = 0;
  for (const value of last) sum += Math.exp(value - highest);
  const total = highest + Math.log(sum);
  const order = Array.from(last.keys()).sort((a, b) => last[b] - last[a]);
  return { logprobs: order.slice(0, top).map((id) => [id, last[id] - total]) };
}

/** The greedy answer. What the model's own settings would sample with is put aside. */
async function answer({ ids, max_tokens }) {
  const began = performance.now();
  const output = await model.generate({
    ...inputsOf(ids),
    max_new_tokens: max_tokens,
    do_sample: false,
    temperature: 1,
    repetition_penalty: 1,
    no_repeat_ngram_size: 0,
  });
  const seconds = (performance.now() - began) / 1000;
  const made = Array.from(output.data, Number).slice(ids.length);
  const ends = [model.generation_config?.eos_token_id ?? model.config.eos_token_id ?? []].flat().map(Number);
  return {
    ids: made,
    text: tokenizer.decode(made, { skip_special_tokens: true, clean_up_tokenization_spaces: false }),
    stopped: ends.includes(made.at(-1)),
    seconds,
  };
}

const can = {
  render: ({ messages }) => ({
    text: tokenizer.apply_chat_template(messages, { tokenize: false, add_generation_prompt: true }),
  }),
  tokens: ({ text, raw }) => ({ ids: Array.from(encode(text, raw), Number) }),
  logprobs,
  answer,
};

for await (const line of createInterface({ input: process.stdin })) {
  const { ask, ...rest } = JSON.parse(line);
  try {
    say(await can[ask](rest));
  } catch (error) {
    say({ error: String(error?.stack ?? error) });
  }
}
