"""The model card of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith.recipe import Recipe


def card(recipe: Recipe, about: Mapping[str, Any]) -> str:
    """What the model is, from what it was made and how it went, as a README."""
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
        f"| answers moved from the base by up to | {about['moved']:.2g} nats |",
        "",
        "![loss](loss.svg)",
        "",
        "The recipe is in `recipe.yaml`, every step in `metrics.jsonl`, what was planned in `plan.json`.",
        "The tuned model is in `model/`, exports of it in `exports/`.",
        "",
        "## Recipe",
        "",
        "```yaml",
        recipe.as_yaml().rstrip(),
        "```",
    ]
    return "\n".join(lines) + "\n"
