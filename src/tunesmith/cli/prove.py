from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.cli.changes import Names
from tunesmith.cli.out import Out

if TYPE_CHECKING:
    from rich.console import Console

    from tunesmith.verbs._proof import Proof

STYLES = {"yes": "green", "no": "red", "cannot tell": "yellow"}
TONES = {"ship": "bold green", "do not ship": "bold red", "cannot tell": "bold yellow"}


def prove(
    what: Path,
    /,
    *,
    rows: int = 200,
    runtimes: Names = (),
    variants: Names = (),
    metric: str | None = None,
    system: str | None = None,
    endpoint: str | None = None,
    endpoint_model: str | None = None,
    endpoint_key: str = "",
    with_: Path | None = None,
) -> Out:
    """Whether tuning was worth it: the tuned model against its base, prompted as well as can be.

    All are asked the same held-out rows, none of which is a training row. What was answered is kept, so that a second
    call asks only what is new. It also writes a page: proof/report.html. The exit code is 0 when the verdict is to
    ship, else 1.

    Args:
        what: A run that is done.
        rows: How many held-out rows are asked at most, drawn by the recipe's seed.
        runtimes: Where the tuned model is asked besides torch: llama_cpp, ollama, transformers_js, onnxruntime. When
            left out, the first three, as far as there is an export for them.
        variants: Which files of its exports are asked there: f32, q8_0, q4. All when left out.
        metric: What decides; chosen from the answers in the data when left out.
        system: A system prompt for the prompted base; the one of each row when left out.
        endpoint: Address, up to /v1, of a server that speaks OpenAI's chat completions; a yardstick that decides
            nothing. It is sent the rows.
        endpoint_model: The model that is asked there.
        endpoint_key: The environment variable that holds its key.
        with_: Another run, whose tuned model is asked too; a yardstick as well.

    Example:
        $ tunesmith prove runs/tiny
        Ship: the tuned model is better: 95.0% against 30.0% (label, 40 rows).

        better?        yes  label 95.0% (83.5% to 98.6%) against 30.0% (18.1% to 45.4%) of base + prompt: ...
        fewer tokens?  yes  24 tokens a request (22 prompt, 2 answer) against 120 (117, 3): ...
        faster?        yes  9 ms a request against 21: ...
    """
    from tunesmith.verbs.prove import prove as look

    proof = look(
        what,
        rows=rows,
        runtimes=runtimes or None,
        variants=variants or None,
        metric=metric,
        system=system,
        endpoint=endpoint,
        endpoint_model=endpoint_model,
        endpoint_key=endpoint_key,
        with_=with_,
    )
    return Out(proof.as_json(), lambda to: paint(proof, to), 0 if proof.ok else 1)


def paint(proof: "Proof", to: "Console") -> None:
    """The verdict, the three lines, and the arms."""
    from rich.table import Table
    from rich.text import Text

    to.print(Text(proof.judged.sentence, TONES[proof.judged.verdict]), soft_wrap=True)
    to.print()
    lines = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for one in proof.lines:
        lines.add_row(Text(one.asks, "bold"), Text(one.says, STYLES[one.says]), Text(one.told))
    to.print(lines)
    to.print()
    to.print(_arms(proof))
    to.print()
    for warning in proof.judged.warnings:
        to.print(Text.assemble(("watch out: ", "red"), warning), soft_wrap=True)
    for name, why in proof.skipped.items():
        to.print(Text.assemble(("not asked: ", "yellow"), f"{name}: {why}"), soft_wrap=True)
    told = proof.drawn.as_json()
    to.print(Text(f"rows: {told['asked']} of {told['held_out']} held out; {told['also_in_training']} leaked", "dim"))
    to.print(Text(f"page: {proof.html}", "dim"), soft_wrap=True)


def _arms(proof: "Proof") -> object:
    from rich.table import Table
    from rich.text import Text

    from tunesmith.verbs._proof_arms import number, span

    kind, unit = proof.metric.kind, proof.metric.unit
    arms = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for head in ("arm", "runtime", kind.replace("_", " "), "95 % interval", "prompt", "answer", "ms", "first ms"):
        arms.add_column(head, justify="left" if head in ("arm", "runtime") else "right")
    for one in proof.arms:
        found = one.quality.get(kind)
        good = ("", "")
        if found:
            good = number(found.value, unit), span(found.low, found.high, lambda end: number(end, unit))
        times = ["" if value is None else f"{value:,.0f}" for value in (one.milliseconds, one.first_milliseconds)]
        counts = [f"{value:,.0f}" for value in (one.prompt_tokens, one.answer_tokens)]
        arms.add_row(Text(one.name, "bold"), one.speaker.runtime, *good, *counts, *times)
    return arms
