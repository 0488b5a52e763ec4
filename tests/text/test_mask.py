from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny.families import FAMILIES, INST, NO_ARGUMENTS, text_of
from tunesmith.errors import DataError
from tunesmith.text.example import Example, Tokens
from tunesmith.text.lost import unwritten
from tunesmith.text.mask import weigh_turns
from tunesmith.text.template import Text

TEXTS = {name: text_of(family) for name, family in FAMILIES.items()}
ANSWERS = [
    "Paris.",
    '{"color": "red", "count": 3}',
    "two\nlines\n\nand a gap",
    "naïve 日本 🙂",
    "a",
    "def add(a, b):\n    return a",
]


def chat(*turns: str, system: str = "", weights: dict[int, bool] | None = None) -> Example:
    """User and assistant in turn."""
    said = [{"role": ("user", "assistant")[at % 2], "content": words} for at, words in enumerate(turns)]
    messages = ([{"role": "system", "content": system}] if system else []) + said
    learn = [(weights or {}).get(at, message["role"] == "assistant") for at, message in enumerate(messages)]
    return Example(tuple(messages), tuple(learn), file="rows.jsonl", line=3)


def learnt(tokens: Tokens, text: Text) -> str:
    return text.spell([one for one, weight in zip(tokens.ids, tokens.weights, strict=True) if weight])


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("answer", ANSWERS)
def test_the_answer_and_its_end_are_learnt_and_nothing_else(name: str, answer: str) -> None:
    family, text = FAMILIES[name], TEXTS[name]
    example = chat("What is the capital of France?", answer)
    (tokens,) = weigh_turns(example, text)
    prompt = text.prompt(example.messages[:1]).ids
    assert learnt(tokens, text) == family.learnt(answer)
    assert tokens.ids[: len(prompt)] == prompt
    assert tokens.weights == (0.0,) * len(prompt) + (1.0,) * (len(tokens.ids) - len(prompt))
    assert tokens.ids[-1] in text.end_ids


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.takes_system])
def test_a_system_text_is_read_and_not_learnt(name: str) -> None:
    text = TEXTS[name]
    example = chat("hello", "Hello, please!", system="Say hello.")
    (tokens,) = weigh_turns(example, text)
    prompt = text.prompt(example.messages[:2])
    assert "Say hello." in prompt.text
    assert tokens.ids[: len(prompt.ids)] == prompt.ids
    assert learnt(tokens, text) == FAMILIES[name].learnt("Hello, please!")


@pytest.mark.parametrize("name", FAMILIES)
def test_each_turn_is_learnt_once_after_the_very_prompt_of_inference(name: str) -> None:
    family, text = FAMILIES[name], TEXTS[name]
    said = ["one", "the first answer", "two", "the second", "three", "the third"]
    example = chat(*said)
    pieces = weigh_turns(example, text)
    assert len(pieces) == 1 or family.rewrites
    assert "".join(learnt(piece, text) for piece in pieces) == "".join(family.learnt(said[at]) for at in (1, 3, 5))
    for at in (1, 3, 5):
        prompt = text.prompt(example.messages[:at]).ids
        begun = [piece for piece in pieces if piece.ids[: len(prompt)] == prompt and piece.weights[len(prompt)] == 1]
        assert len(begun) == 1


@pytest.mark.parametrize("name", FAMILIES)
def test_a_turn_of_weight_0_carries_none(name: str) -> None:
    family, text = FAMILIES[name], TEXTS[name]
    example = chat("one", "not this", "two", "but this", weights={1: False})
    (tokens,) = weigh_turns(example, text)
    assert learnt(tokens, text) == family.learnt("but this")


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(FAMILIES)),
    st.text(st.characters(codec="utf-8", exclude_characters="<|>[]#\0"), min_size=1, max_size=30).filter(str.strip),
)
def test_any_words_come_back_whole(name: str, answer: str) -> None:
    family, text = FAMILIES[name], TEXTS[name]
    example = chat("ask", answer)
    (tokens,) = weigh_turns(example, text)
    prompt = text.prompt(example.messages[:1]).ids
    assert tokens.ids[: len(prompt)] == prompt
    assert learnt(tokens, text) == family.learnt(answer)


def test_words_that_would_melt_into_the_prompt_keep_the_border() -> None:
    """`\\n` + `\\nHi` is one token in some vocabularies; at inference the prompt has ended before it."""
    text = TEXTS["colon, space"]
    prompt = text.prompt([{"role": "user", "content": "ask"}])
    assert text.encode(prompt.text + "Paris")[: len(prompt.ids)] != list(prompt.ids), "the case must be a real one"
    (tokens,) = weigh_turns(chat("ask", "Paris"), text)
    assert tokens.ids[: len(prompt.ids)] == prompt.ids
    assert learnt(tokens, text) == "Paris</s>"


def test_given_thoughts_are_learnt_where_the_prompt_opens_them() -> None:
    text = TEXTS["opened thought"]
    (tokens,) = weigh_turns(chat("ask", "<think>\nhm, two\n</think>\n\nfive"), text)
    assert learnt(tokens, text) == "hm, two\n</think>\n\nfive<|eos|>"


def test_given_thoughts_are_learnt_in_the_turn_where_they_were_had() -> None:
    text = TEXTS["thinking"]
    thought = "<think>\nhm\n</think>\n\n"
    first, second = weigh_turns(chat("a", thought + "one", "b", thought + "two"), text)
    assert learnt(first, text) == thought + "one<|im_end|>"
    assert learnt(second, text) == thought + "two<|im_end|>"
    assert text.spell(second.ids).count("<think>") == 1, "what is past has lost its thoughts, as at inference"


def test_calls_of_tools_are_learnt() -> None:
    text = TEXTS["thinking"]
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 2}}}
    messages = ({"role": "user", "content": "add"}, {"role": "assistant", "content": "", "tool_calls": [call]})
    (tokens,) = weigh_turns(Example(messages, (False, True)), text)
    assert '{"name": "add", "arguments": {"a": 2}}' in learnt(tokens, text)
    assert learnt(tokens, text).endswith("</tool_call><|im_end|>")


ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}


def calling(words: str = "", **arguments: object) -> dict[str, object]:
    call = {"type": "function", "id": "call00001", "function": {"name": "add", "arguments": arguments}}
    return {"role": "assistant", "content": words, "tool_calls": [call]}


ROUND: tuple[dict[str, object], ...] = (
    {"role": "user", "content": "two and three"},
    calling(a=2, b=3),
    {"role": "tool", "content": "5", "tool_call_id": "call00001"},
    {"role": "assistant", "content": "five"},
)


def test_a_whole_round_of_tools_is_learnt_after_the_prompts_of_inference() -> None:
    text = TEXTS["tools"]
    (tokens,) = weigh_turns(Example(ROUND, (False, True, False, True), (ADD,)), text)
    assert learnt(tokens, text) == (
        '<call>{"name": "add", "arguments": {"a": 2, "b": 3}}</call><|im_end|>five<|im_end|>'
    )
    for at in (1, 3):
        prompt = text.prompt(ROUND[:at], (ADD,))
        assert '"name": "add", "parameters"' in prompt.text
        assert tokens.ids[: len(prompt.ids)] == prompt.ids
        assert tokens.weights[len(prompt.ids)] == 1


def test_arguments_are_given_as_text_where_the_template_joins_them_as_text() -> None:
    text = TEXTS["text arguments"]
    (tokens,) = weigh_turns(Example(ROUND[:2], (False, True)), text)
    assert learnt(tokens, text) == '{"name": "add", "parameters": {"a": 2, "b": 3}}<|im_end|>'


def test_words_beside_a_call_that_the_template_drops_are_a_fault() -> None:
    example = Example((ROUND[0], calling("I add them.", a=2)), (False, True), line=3)
    assert learnt(weigh_turns(example, TEXTS["tools"])[0], TEXTS["tools"]).startswith("I add them.<call>")
    with pytest.raises(DataError, match=r"(?s)without its words.*empty its content") as caught:
        weigh_turns(example, TEXTS["calls alone"])
    assert [fault.code for fault in caught.value.faults] == ["objective/no-span"]


@pytest.mark.parametrize("value", ["Bern", ["x", {"y": "Basel"}], 417, 0.25])
def test_an_argument_that_the_template_drops_is_a_fault(value: object) -> None:
    words = text_of(FAMILIES["calls alone"]).tokenizer
    words.chat_template = NO_ARGUMENTS
    example = Example((ROUND[0], calling(city=value)), (False, True))
    assert weigh_turns(example, TEXTS["calls alone"])
    assert faults(example, Text(words, TEXTS["calls alone"].end_ids))[0][0] == "objective/no-span"


@pytest.mark.parametrize("name", ["tools", "calls alone", "text arguments", "thinking"])
@pytest.mark.parametrize("value", ['say "hi"', "a\nb", "a\\b", " naïve 日本 ", True, None, 1e-7, -3, {"k": [[]]}])
def test_an_argument_is_found_however_json_spells_it(name: str, value: object) -> None:
    assert weigh_turns(Example((ROUND[0], calling(value=value)), (False, True)), TEXTS[name])


def test_what_a_template_has_no_place_for_is_named() -> None:
    thinks = {"role": "assistant", "content": "five", "reasoning_content": "hm, two"}
    inside = {"role": "assistant", "content": "<think>\nhm, two\n</think>\n\nfive"}

    def lost(name: str, turn: dict[str, str]) -> list[str]:
        example = Example((ROUND[0], turn), (False, True), (ADD,))
        return [one.partition(" ")[0] for one in unwritten(example, TEXTS[name], weigh_turns(example, TEXTS[name]))]

    assert lost("tools", inside) == []
    assert lost("tools", thinks) == ["thoughts"]
    assert lost("opened thought", thinks) == ["tools"]
    assert lost("cut thought", inside) == ["thoughts", "tools"]


def test_a_mark_that_begins_as_another_does_stays_whole() -> None:
    """`<|call>` stands where the prompt has `<|channel>`: the two begin alike, and no part of either may be lost."""
    text = TEXTS["closed channel"]
    call = {"type": "function", "function": {"name": "add", "arguments": {}}}
    messages = ({"role": "user", "content": "add"}, {"role": "assistant", "content": "", "tool_calls": [call]})
    (tokens,) = weigh_turns(Example(messages, (False, True)), text)
    assert learnt(tokens, text) == "<|call>add<call|><turn|>"


def test_given_thoughts_are_learnt_where_they_are_recorded() -> None:
    text = TEXTS["recorded thought"]
    (tokens,) = weigh_turns(chat("ask", "<think>\nhm\n</think>\n\nfive"), text)
    assert learnt(tokens, text) == "hm\n</think>\n\nfive<|im_end|>"


def faults(example: Example, text: Text) -> list[tuple[str, str, int | None]]:
    with pytest.raises(DataError) as caught:
        weigh_turns(example, text)
    return [(fault.code, fault.key, fault.line) for fault in caught.value.faults]


def test_a_system_text_that_the_template_refuses_is_a_fault_with_its_line() -> None:
    text = TEXTS["no system"]
    example = chat("a", "b", "c", "d", system="be kind")
    assert faults(example, text) == [("objective/template-refuses", "messages[2]", 3)]


def test_turns_that_do_not_alternate_are_a_fault_where_the_template_wants_it() -> None:
    messages = tuple({"role": role, "content": "x"} for role in ("user", "user", "assistant"))
    assert faults(Example(messages, (False, False, True)), TEXTS["inst"])[0][0] == "objective/template-refuses"


@pytest.mark.parametrize(
    ("name", "messages", "cure"),
    [
        ("inst", ["system", "user", "user", "assistant"], "let user and assistant take turns"),
        ("no system", ["system", "user", "assistant"], "put the system text at the head"),
        ("strict", ["system", "user", "assistant"], "put the system text at the head"),
        ("calls alone", ["user", "call"], "nine letters and digits"),
    ],
)
def test_what_a_template_refuses_has_the_cure_for_its_cause(name: str, messages: list[str], cure: str) -> None:
    text = TEXTS.get(name) or text_of(FAMILIES["inst"])
    if name == "strict":  # says that roles must alternate, and means the system text
        text.tokenizer.chat_template = INST.replace("== 'system'", "== 'none'")
    call = calling()
    call["tool_calls"][0]["id"] = "call_0123456789abcdef"  # type: ignore[index]
    turns = tuple(call if role == "call" else {"role": role, "content": "x"} for role in messages)
    with pytest.raises(DataError, match=cure):
        weigh_turns(Example(turns, tuple(one["role"] == "assistant" for one in turns)), text)


def test_an_end_token_inside_an_answer_is_a_fault() -> None:
    assert faults(chat("a", "say <|im_end|> now"), TEXTS["chatml"]) == [
        ("objective/end-token-inside", "messages[1]", 3)
    ]


def test_an_end_token_inside_the_arguments_of_a_call_is_a_fault() -> None:
    call = {"type": "function", "function": {"name": "say", "arguments": {"words": "<|im_end|>"}}}
    messages = ({"role": "user", "content": "add"}, {"role": "assistant", "content": "", "tool_calls": [call]})
    assert faults(Example(messages, (False, True)), TEXTS["thinking"])[0][0] == "objective/end-token-inside"


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ m['role'] + m['content'] | upper }}{% endfor %}",  # other words than the row's
        "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}{% endfor %}",  # no answer
        "{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<answer>' }}{% endif %}",  # asks for another role than it writes
    ],
)
def test_an_answer_that_cannot_be_found_is_a_fault_and_never_nothing(template: str) -> None:
    words = text_of(FAMILIES["chatml"]).tokenizer
    words.chat_template = template
    assert faults(chat("hello there, you", "fine"), Text(words, frozenset([2])))[0][0] == "objective/no-span"


def test_a_model_without_any_end_is_a_fault() -> None:
    words = text_of(FAMILIES["no end"]).tokenizer
    words.eos_token = None
    assert faults(chat("a", "b"), Text(words, frozenset()))[0][0] == "objective/no-end-token"


def spaced() -> Text:
    """A tokenizer that writes blanks as ▁ and puts one before a text that begins without, as the Llama 2 kind does."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE(unk_token="<unk>"))
    bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    bpe.decoder = decoders.Metaspace(prepend_scheme="first")
    corpus = ["USER: ask me ASSISTANT: Paris is it", "Say hello, please! the answer is five\nfour [INST] [/INST]"] * 9
    bpe.train_from_iterator(corpus, trainers.BpeTrainer(special_tokens=["<unk>", "<s>", "</s>"], show_progress=False))
    return Text(PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>"), frozenset([2]))


@pytest.mark.parametrize("name", ["inst in letters", "colon", "colon, space", "no end"])
@pytest.mark.parametrize("answer", ["Paris", "Say five", "a\nb"])
def test_a_tokenizer_that_adds_blanks_keeps_the_border_too(name: str, answer: str) -> None:
    text = spaced()
    text.tokenizer.chat_template = FAMILIES[name].template
    example = chat("ask me", answer)
    (tokens,) = weigh_turns(example, text)
    prompt = text.prompt(example.messages[:1]).ids
    words = text.render(example.messages).rstrip("\n")
    whole = words if words.endswith("</s>") else f"{words}</s>"
    assert tokens.ids[: len(prompt)] == prompt
    assert tokens.weights == (0.0,) * len(prompt) + (1.0,) * (len(tokens.ids) - len(prompt))
    assert text.spell(tokens.ids) == text.spell(text.encode(whole))


def test_a_fixed_day_is_written_where_the_template_writes_today() -> None:
    text = TEXTS["dated"]
    ask = [{"role": "user", "content": "ask"}]
    fixed = Text(text.tokenizer, text.end_ids, date(1999, 2, 3))
    assert "Today: 03 Feb 1999<|im_end|>" in fixed.render(ask)
    assert fixed.render(ask).replace("03 Feb 1999", f"{date.today():%d %b %Y}") == text.render(ask)


def test_the_end_that_the_template_writes_ends_an_answer_whatever_the_base_calls_its_end() -> None:
    text = text_of(FAMILIES["chatml"])
    words = text.tokenizer
    words.eos_token = "<|endoftext|>"
    assert words.convert_ids_to_tokens(list(Text(words, frozenset()).turn_end_ids())) == ["<|im_end|>"]
