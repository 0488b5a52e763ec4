// Holds the model, so that the page stays quick while it computes. It is told in messages and answers in messages.
import { AutoModelForCausalLM, AutoTokenizer, InterruptableStoppingCriteria, env } from "./vendor/transformers.js";
import { choose, own } from "./device.js";
import { generate } from "./generate.js";

const here = new URL("./", import.meta.url);
const { wasm } = env.backends.onnx;
env.allowRemoteModels = false;
env.allowLocalModels = true;
env.localModelPath = here.pathname;
env.useBrowserCache = false; // the files lie on the same server as the page
env.useWasmCache = false;
wasm.wasmPaths = own(wasm.wasmPaths, new URL("vendor/", here));
wasm.numThreads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, 8) : 1;

const stopping = new InterruptableStoppingCriteria();
const one = {}; // tokenizer, model and page.json

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

/** WebAssembly computes without a pause: only between two tasks is the message heard that stops it. */
function pausing(model) {
  const { port1, port2 } = new MessageChannel();
  const forward = model.forward.bind(model);
  model.forward = async (inputs) => {
    await new Promise((go) => {
      port1.onmessage = go;
      port2.postMessage(null);
    });
    return forward(inputs);
  };
  return model;
}

async function load(wanted) {
  one.about = await (await fetch(new URL("page.json", here))).json();
  const { device, dtype, bytes } = await choose(one.about, wanted);
  one.tokenizer = await AutoTokenizer.from_pretrained("model");
  const options = { device, dtype, progress_callback: progress(bytes) };
  try {
    one.model = pausing(await AutoModelForCausalLM.from_pretrained("model", options));
  } catch (error) {
    if (device !== "webgpu") throw error;
    postMessage({ kind: "lost", why: "The GPU could not be used" });
    return;
  }
  const lost = device === "webgpu" && env.backends.onnx.webgpu.device?.lost;
  if (lost) lost.then(() => postMessage({ kind: "lost", why: "The GPU was lost" }));
  postMessage({ kind: "ready", device, dtype, bytes });
}

async function answer({ messages, limit }) {
  stopping.reset();
  const hear = (said) => postMessage({ kind: "text", ...said });
  const made = await generate(one, messages, { limit, hear, stopping_criteria: stopping });
  postMessage({ kind: "done", ...made, stopped: stopping.interrupted });
}

const can = { load, answer, stop: () => stopping.interrupt() };

addEventListener("message", async ({ data }) => {
  try {
    await can[data.kind](data);
  } catch (error) {
    postMessage({ kind: "error", text: String(error?.message ?? error) });
  }
});
