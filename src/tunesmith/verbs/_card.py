"""The model card of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tunesmith.recipe import Recipe

if TYPE_CHECKING:
    from tunesmith.verbs._proof import Proof

BEGIN, END = "<!-- proof -->", "<!-- end of proof -->"


def card(recipe: Recipe, about: Mapping[str, Any], data: str) -> str:
    """What the model is, from what it was made and how it went, as a README.

    Args:
        recipe: by which it was tuned.
        about: what the run's manifest says about itself.
        data: the hash of all rows.
    """
    held = about["held_out_loss"]
    train = ", ".join(recipe.data.names)
    method = about.get("method", type(recipe.method).kind)  # a run of an older version says none
    lines = [
        "# A tuned model",
        "",
        f"{recipe.base}, tuned on {train} with {method} ({type(recipe.objective).kind}).",
        "",
        "| | |",
        "|---|---|",
        f"| steps | {about['steps']} |",
        f"| time | {about['seconds']:.0f} s |",
        f"| weights that moved | {about['trainable']:,} |",
        f"| loss at the end | {about['loss']:.4f} nats a token |",
        f"| held-out loss | {'none was held out' if held is None else f'{held:.4f} nats a token'} |",
        f"| weights saved in | {about['save_dtype']} |",
        f"| data, SHA-256 | {data} |",
        f"| made with | {', '.join(f'{name} {one}' for name, one in about.get('versions', {}).items())} |",
        f"| answers moved from the base by up to | {about['moved']:.2g} nats |",
        "",
        "![loss](loss.svg)",
        "",
        "The recipe is in `recipe.yaml`, every step in `metrics.jsonl`, what was planned in `plan.json`.",
        "The tuned model is in `model/`, exports of it in `exports/`.",
        "",
        "## Limits",
        "",
        *_limits(recipe, about),
        "",
        "## Recipe",
        "",
        "```yaml",
        recipe.as_yaml().rstrip(),
        "```",
    ]
    return "\n".join(lines) + "\n"


def _limits(recipe: Recipe, about: Mapping[str, Any]) -> list[str]:
    """What nobody has looked at."""
    limits = []
    if "rows" in about:  # which a run of an older version does not say
        limits.append(
            f"- It has seen {about['rows']:,} rows of at most {about['longest']:,} tokens, and none that are longer."
        )
    if recipe.data.system_prompt == "drop":
        limits.append("- It was tuned without the system prompt of the rows, and is to be asked without one.")
    return [
        *limits,
        "- What it answers to anything unlike its rows was not measured, unless a proof below says so.",
        "- The licences of the base and of the data hold for it too.",
    ]


def with_proof(text: str, proof: Proof) -> str:
    """A card with what a proof found, in place of what an earlier one found; the rest is as it was."""
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    return before.rstrip("\n") + "\n\n" + "\n".join([BEGIN, *_proved(proof), END]) + "\n" + after.lstrip("\n")


def _proved(proof: Proof) -> list[str]:
    from tunesmith.verbs._proof_arms import number, span

    kind, unit = proof.metric.kind, proof.metric.unit
    lines = [
        "## Was tuning worth it?",
        "",
        f"{proof.judged.sentence} On held-out rows that no training row holds; `proof/report.html` has the details.",
        "",
        f"| | {kind.replace('_', ' ')} | 95 % interval | prompt tokens | answer tokens | ms a request |",
        "|---|---|---|---|---|---|",
    ]
    for one in proof.arms:
        found = one.quality.get(kind)
        good = " | "
        if found:
            good = f"{number(found.value, unit)} | {span(found.low, found.high, lambda end: number(end, unit))}"
        ms = "" if one.milliseconds is None else f"{one.milliseconds:,.0f}"
        lines.append(f"| {one.title} | {good} | {one.prompt_tokens:,.0f} | {one.answer_tokens:,.0f} | {ms} |")
    return [*lines, "", *(f"- {one.asks} {one.says}: {one.told}" for one in proof.lines)]
