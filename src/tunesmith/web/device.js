// Where this browser computes, and which form of the weights it takes there.

// WebAssembly has no product for blocks of 4 bits: it makes a float matrix of them for every token. The export says
// in page.json which form is best there, since what is quick takes more memory than the largest models leave.
const BEST = {
  half: ["q4f16", "q4", "fp16", "q8", "fp32"],
  whole: ["q4", "q8", "fp32"],
  wasm: ["q8", "fp32", "q4", "fp16", "q4f16"],
};

/** `half` or `whole` for a GPU with or without half precision; null where there is none that is worth it. */
async function gpu(forced) {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  if (!adapter) return null;
  const software = adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter; // slower than WebAssembly
  if (software && !forced) return null;
  return adapter.features.has("shader-f16") ? "half" : "whole";
}

function known(what, name, names) {
  if (name && !names.includes(name)) throw new Error(`there is no ${what} ${name} here, but: ${names.join(", ")}`);
}

/** The device and the weights to load; `dtype` and `device` are what the address asks for, if it does. */
export async function choose({ variants, wasm }, { dtype, device }) {
  const names = variants.map((one) => one.dtype);
  known("dtype", dtype, names);
  known("device", device, ["webgpu", "wasm"]);
  const first = (order) => order.find((name) => names.includes(name) && (!dtype || name === dtype));
  const kind = device === "wasm" ? null : await gpu(device === "webgpu");
  const there = kind && first(BEST[kind]);
  const taken = there || first([wasm, ...BEST.wasm]);
  return { device: there ? "webgpu" : "wasm", ...variants.find((one) => one.dtype === taken) };
}

/** The WebAssembly build that the library chose for this browser, from the folder beside the page. */
export function own(paths, folder) {
  return Object.fromEntries(
    Object.entries(paths).map(([part, url]) => [part, new URL(url.slice(url.lastIndexOf("/") + 1), folder).href]),
  );
}
