// Holds the model, so that the page stays quick while it computes. It is told in messages and answers in messages.
import {
  AutoModelForCausalLM,
  AutoTokenizer,
  InterruptableStoppingCriteria,
  TextStreamer,
  env,
} from "./vendor/transformers.js";

const here = new URL("./", import.meta.url);
env.allowRemoteModels = false;
env.allowLocalModels = true;
env.localModelPath = here.pathname;
env.useBrowserCache = false; // the files lie on the same server as the page
env.useWasmCache = false;
env.backends.onnx.wasm.wasmPaths = new URL("vendor/", here).href;
env.backends.onnx.wasm.numThreads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, 8) : 1;

const stopping = new InterruptableStoppingCriteria();
let tokenizer;
let model;
let about;

/** What this browser can compute on: `webgpu` with or without half precision, else `wasm`. */
async function device() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  return adapter ? { name: "webgpu", half: adapter.features.has("shader-f16") } : { name: "wasm", half: false };
}

// WebAssembly has no product for blocks of 4 bits: it would make a float matrix of them for every token.
const BEST = {
  half: ["q4f16", "q4", "fp16", "q8", "fp32"],
  whole: ["q4", "q8", "fp32"],
  wasm: ["q8", "fp32", "q4", "fp16", "q4f16"],
};

/** The best dtype for the device, of those that are here. */
function choose(variants, on) {
  const order = BEST[on.name === "wasm" ? "wasm" : on.half ? "half" : "whole"];
  const found = order.map((dtype) => variants.find((one) => one.dtype === dtype)).find(Boolean);
  if (!found) throw new Error("these weights need a GPU with half precision (WebGPU with shader-f16); this browser has none");
  return found;
}

/** Bytes of all files that are under way, as one number between 0 and 1. */
function progress(expected) {
  const loaded = new Map();
  return ({ status, file, loaded: n }) => {
    if (status !== "progress") return;
    loaded.set(file, n);
    const sum = [...loaded.values()].reduce((a, b) => a + b, 0);
    postMessage({ kind: "loading", bytes: sum, total: Math.max(expected, sum) });
  };
}

async function load({ dtype, force }) {
  about = await (await fetch(new URL("page.json", here))).json();
  const on = force ? { name: force, half: false } : await device();
  const variant = about.variants.find((one) => one.dtype === dtype) ?? choose(about.variants, on);
  const options = { device: on.name, dtype: variant.dtype, progress_callback: progress(variant.bytes) };
  tokenizer = await AutoTokenizer.from_pretrained("model");
  model = await AutoModelForCausalLM.from_pretrained("model", options);
  postMessage({ kind: "ready", device: on.name, dtype: variant.dtype, bytes: variant.bytes });
}

function inputsOf({ messages, text }) {
  if (!about.chat) return tokenizer(text);
  return tokenizer.apply_chat_template(messages, { add_generation_prompt: true, return_dict: true });
}

async function answer(ask) {
  const inputs = inputsOf(ask);
  const began = performance.now();
  let first = 0;
  let n = 0;
  const speed = () => (n > 1 ? ((n - 1) * 1000) / (performance.now() - first) : 0);
  const streamer = new TextStreamer(tokenizer, {
    skip_prompt: true,
    skip_special_tokens: true,
    clean_up_tokenization_spaces: false,
    token_callback_function: () => {
      first ||= performance.now();
      n += 1;
    },
    callback_function: (text) => postMessage({ kind: "text", text, tokens: n, speed: speed() }),
  });
  stopping.reset();
  await model.generate({
    ...inputs,
    max_new_tokens: ask.limit,
    do_sample: false,
    streamer,
    stopping_criteria: stopping,
  });
  postMessage({
    kind: "done",
    tokens: n,
    speed: speed(),
    waited: (first - began) / 1000,
    stopped: stopping.interrupted,
  });
}

const can = { load, answer, stop: () => stopping.interrupt() };

addEventListener("message", async ({ data }) => {
  try {
    await can[data.kind](data);
  } catch (error) {
    postMessage({ kind: "error", text: String(error?.message ?? error) });
  }
});
