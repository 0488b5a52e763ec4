// One greedy answer, token by token: the page's worker and the Node script both generate with this.

const SHARE = 4; // at most this part of the context is kept free for the answer

/** A streamer that tells the whole text so far after each token; half a character is not shown. */
export class Writing {
  constructor(tokenizer, hear) {
    Object.assign(this, { tokenizer, hear, ids: null, text: "", began: performance.now(), first: 0 });
  }

  put([ids]) {
    if (this.ids === null) {
      this.ids = []; // what comes first is the prompt
      return;
    }
    this.first ||= performance.now();
    this.ids.push(...ids);
    this.say((text) => text.replace(/\ufffd+$/, ""));
  }

  end() {
    this.say((text) => text);
  }

  // All of it is decoded each time: some tokenizers drop the space before whatever they take for a beginning.
  say(shown) {
    const how = { skip_special_tokens: true, clean_up_tokenization_spaces: false };
    this.text = shown(this.tokenizer.decode(this.ids, how));
    this.hear({ text: this.text, tokens: this.ids.length, speed: this.speed });
  }

  /** Tokens a second after the first one. */
  get speed() {
    const n = this.ids.length - 1;
    return n > 0 ? (n * 1000) / (performance.now() - this.first) : 0;
  }

  /** Seconds until the first token. */
  get waited() {
    return (this.first - this.began) / 1000;
  }
}

function encode({ tokenizer, about }, messages) {
  if (!about.chat) {
    // A soft prompt stands before the text, and then whatever the tokenizer would have added.
    const lead = about.lead ?? "";
    return tokenizer(lead + messages.at(-1).content, { add_special_tokens: !lead });
  }
  const system = about.system ? [{ role: "system", content: about.system }] : [];
  const how = { add_generation_prompt: true, return_dict: true };
  return tokenizer.apply_chat_template([...system, ...messages], how);
}

/** The newest turns that the model's context holds beside an answer, in numbers; how many older ones it does not. */
export function fit(one, messages, limit) {
  const { context, chat } = one.about;
  const most = context - Math.min(limit, Math.floor(context / SHARE));
  const turns = chat ? messages : messages.slice(-1);
  for (let leftOut = 0; ; leftOut += 2) {
    const inputs = encode(one, turns.slice(leftOut));
    const n = inputs.input_ids.dims.at(-1);
    if (n <= most) return { inputs, leftOut, room: Math.min(limit, context - n) };
    if (leftOut + 2 >= turns.length) {
      throw new Error(`this message is too long: ${n} tokens, and the model reads ${most} beside its answer`);
    }
  }
}

/** Answers the last of the messages; `hear` is told the text so far. `one` holds tokenizer, model and page.json. */
export async function generate(one, messages, { limit, hear, ...more }) {
  const { inputs, leftOut, room } = fit(one, messages, limit);
  const streamer = new Writing(one.tokenizer, hear);
  await one.model.generate({ ...inputs, ...more, max_new_tokens: room, do_sample: false, streamer });
  const { text, speed, waited, ids } = streamer;
  return { text, tokens: ids.length, speed, waited, leftOut, full: ids.length >= room };
}
