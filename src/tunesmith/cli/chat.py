import sys
from pathlib import Path
from typing import Any

from tunesmith.cli.out import Out
from tunesmith.errors import CannotTell, Fault, RecipeError, RuntimeFault

MAX_TOKENS = 512


def chat(
    what: Path,
    /,
    *,
    runtime: str = "torch",
    variant: str | None = None,
    prompt: str | None = None,
    base: str | None = None,
    into: Path | None = None,
    max_tokens: int = MAX_TOKENS,
) -> Out:
    """Talk to a model, in any runtime.

    On a terminal a conversation, which /new begins again and Ctrl-D ends. With --prompt, or with text on stdin, one
    answer.

    Args:
        what: A run, a Hugging Face model folder, or a PEFT adapter folder.
        runtime: Where it runs: torch, llama_cpp, ollama, onnxruntime or transformers_js.
        variant: Which file of the export, such as q8_0; the first when left out.
        prompt: Ask this once, and print the answer.
        base: The model that an adapter was trained on, where it does not say so itself.
        into: The folder that was given to export.
        max_tokens: Tokens after which an answer is cut.

    Example:
        $ tunesmith chat runs/tiny --prompt "play some jazz" --max-tokens 8
        eeeeeeee
    """
    from tunesmith.verbs._subject import subject_of
    from tunesmith.verbs.chat import chat as open_chat

    if prompt is None and not sys.stdin.isatty():
        prompt = sys.stdin.read().strip()
    if prompt == "":
        fix = 'ask something: tunesmith chat RUN --prompt "..."'
        raise RecipeError(Fault("chat/nothing-asked", "the prompt is empty", fix=fix))
    with open_chat(what, runtime=runtime, variant=variant, base=base, into=into) as model:
        raw_text = subject_of(what, base=base, into=into).raw_text
        if prompt is None:
            return _conversation(model, raw_text, max_tokens)
        answer = _ask(model, prompt if raw_text else [{"role": "user", "content": prompt}], max_tokens)
    tree = {
        "prompt": prompt,
        "answer": answer.text,
        "stopped": answer.stopped,
        "prompt_tokens": answer.n_prompt_tokens,
        "answer_tokens": answer.n_answer_tokens,
        "seconds": answer.seconds,
    }
    return Out(tree, lambda to: to.print(answer.text, soft_wrap=True))


def _ask(model: Any, ask: Any, max_tokens: int) -> Any:
    try:
        return model.answer(ask, max_tokens)
    except CannotTell as missing:
        raise RuntimeFault(Fault("chat/cannot-answer", missing.why, fix="choose another --runtime")) from None


def _conversation(model: Any, raw_text: bool, max_tokens: int) -> Out:
    """Ask and answer until Ctrl-D; the talk so far goes with each question."""
    said: list[dict[str, str]] = []
    n_answers = 0
    sys.stderr.write("/new begins again, Ctrl-D ends\n")
    while (line := _line()) is not None:
        if line == "/new":
            said = []
        if not line or line == "/new":
            continue
        said.append({"role": "user", "content": line})
        answer = _ask(model, line if raw_text else said, max_tokens)
        said.append({"role": "assistant", "content": answer.text})
        n_answers += 1
        speed = answer.n_answer_tokens / answer.seconds if answer.seconds else 0.0
        cut = "" if answer.stopped else f", cut at {max_tokens} tokens"
        sys.stdout.write(answer.text + "\n")
        sys.stderr.write(f"\033[2m{answer.n_answer_tokens} tokens, {speed:.1f} a second{cut}\033[0m\n")
    return Out({"answers": n_answers}, lambda to: None)


def _line() -> str | None:
    """A line the person typed, with line editing where the system has it; None at the end."""
    import contextlib

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - its import is what gives input() its line editing
    try:
        return input("> ").strip()
    except EOFError:
        return None
