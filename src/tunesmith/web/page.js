// The page: it shows what the worker says. Every word of the model and of the person goes in as text, never as markup.
const $ = (id) => document.getElementById(id);
const wanted = new URLSearchParams(location.search); // ?dtype=fp32&device=wasm&limit=64
const LIMIT = Math.max(1, Number(wanted.get("limit")) || 512);
const NEAR_END = 80; // pixels from the bottom within which the page follows the answer
const OFFERS = ["What can you do?", "Explain why the sky is blue.", "Write a short poem about rain."];
const BEGINNINGS = ["Once upon a time", "The most important thing is", "In the beginning"];

let worker;
let about = { chat: true, system: "", prompts: [], title: "Chat" };
let messages = [];
let open = null; // the answer that is being written
let ready = false;

function make(tag, className, text = "") {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  return node;
}

function size(bytes) {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${Math.max(1, Math.round(bytes / 1e6))} MB`;
}

function plural(n, word) {
  return `${n} ${word}${n === 1 ? "" : "s"}`;
}

function follow(always = false) {
  const left = document.documentElement.scrollHeight - innerHeight - scrollY;
  if (always || left < NEAR_END) scrollTo({ top: document.documentElement.scrollHeight });
}

function addTurn(who, text) {
  const turn = make("li", `turn ${who}`);
  turn.append(make("span", "unseen", who === "you" ? "You:" : "Model:"));
  const words = make("div", "words", text);
  const note = make("p", "note");
  turn.append(words, note);
  $("turns").append(turn);
  $("hello").hidden = true;
  return { turn, words, note, text };
}

function busy(on) {
  $("send").hidden = on;
  $("stop").hidden = !on;
  $("again").disabled = on || messages.length === 0;
  $("send").disabled = !ready;
  $("text").disabled = !ready;
}

function ask(text) {
  if (!ready || open || !text.trim()) return;
  $("fault").hidden = true;
  const asked = addTurn("you", text);
  messages.push({ role: "user", content: text });
  open = { ...addTurn("model", ""), asked };
  open.turn.classList.add("writing");
  open.turn.setAttribute("aria-busy", "true");
  worker.postMessage({ kind: "answer", messages, limit: LIMIT });
  $("text").value = "";
  fit();
  busy(true);
  follow(true);
}

function close(note) {
  open.turn.classList.remove("writing");
  open.turn.removeAttribute("aria-busy");
  open.note.textContent = note;
  messages.push({ role: "assistant", content: open.text });
  open = null;
  busy(false);
  follow();
  $("text").focus();
}

/** Takes back the question that has no answer: its words are in the box again. */
function takeBack() {
  if (!open) return;
  $("text").value = messages.pop().content;
  open.turn.remove();
  open.asked.turn.remove();
  $("hello").hidden = messages.length > 0;
  open = null;
  fit();
  busy(false);
}

function say(text) {
  $("fault").textContent = text;
  $("fault").hidden = false;
}

function fail(text) {
  say(text);
  $("loading").hidden = true;
  takeBack();
}

const hear = {
  loading: ({ bytes, total }) => {
    $("bar").value = bytes / total;
    $("loading-words").textContent = `Loading the model: ${size(bytes)} of ${size(total)}`;
  },
  ready: ({ device, dtype, bytes }) => {
    ready = true;
    $("loading").hidden = true;
    const facts = [device === "webgpu" ? "WebGPU" : "WebAssembly", dtype, size(bytes)];
    $("facts").replaceChildren(...facts.map((fact) => make("li", "fact", fact)));
    document.body.dataset.ready = device;
    for (const offer of $("offers").children) offer.disabled = false;
    busy(false);
    $("text").focus();
  },
  text: ({ text, tokens, speed }) => {
    if (!open) return;
    open.text = text;
    open.words.textContent = open.text;
    if (speed) open.note.textContent = `${plural(tokens, "token")}, ${speed.toFixed(1)} a second`;
    follow();
  },
  done: ({ tokens, speed, waited, stopped, full, leftOut }) => {
    const end = stopped ? ", stopped" : full ? ", cut at the limit" : "";
    const rate = speed ? `, ${speed.toFixed(1)} a second` : "";
    const old = leftOut ? `; ${leftOut} older messages were too long to be read again` : "";
    close(`${plural(tokens, "token")}${rate}, first after ${waited.toFixed(1)} s${end}${old}`);
  },
  // A worker whose GPU failed is of no more use: another one computes on the processor.
  lost: ({ why }) => {
    takeBack();
    start("wasm");
    say(`${why}; the model goes on with WebAssembly.`);
  },
  error: ({ text }) => fail(`That did not work: ${text}`),
};

function fit() {
  const text = $("text");
  text.style.height = "auto";
  text.style.height = `${text.scrollHeight}px`;
}

function offer(text) {
  const button = make("button", "offer", text);
  button.type = "button";
  button.disabled = !ready;
  button.addEventListener("click", () => ask(text));
  return button;
}

function start(device) {
  worker?.terminate();
  worker = new Worker("worker.js", { type: "module" });
  worker.addEventListener("message", ({ data }) => hear[data.kind](data));
  worker.addEventListener("error", (event) => fail(`The model could not be started: ${event.message ?? "unknown"}`));
  ready = false;
  delete document.body.dataset.ready;
  $("loading").hidden = false;
  busy(false);
  worker.postMessage({ kind: "load", dtype: wanted.get("dtype"), device });
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  ask($("text").value);
});
$("stop").addEventListener("click", () => worker.postMessage({ kind: "stop" }));
$("again").addEventListener("click", () => {
  messages = [];
  $("fault").hidden = true;
  $("turns").replaceChildren();
  $("hello").hidden = false;
  busy(false);
  $("text").focus();
});
$("text").addEventListener("input", fit);
$("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  ask($("text").value);
});

async function begin() {
  about = await (await fetch("page.json")).json();
  document.title = about.title;
  $("title").textContent = about.title;
  if (!about.chat) {
    $("greeting").textContent = "How does the text begin?";
    $("text").placeholder = "Write a beginning";
  }
  const offers = about.prompts.length ? about.prompts : about.chat ? OFFERS : BEGINNINGS;
  $("offers").replaceChildren(...offers.map(offer));
  start(wanted.get("device"));
}

begin().catch((error) => fail(`The page could not be loaded: ${error.message}`));
