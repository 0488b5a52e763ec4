"""Where the tuned model is asked: in some runtimes, and there each file of its exports, or some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith.errors import Fault, RecipeError
from tunesmith.verbs._subject import Subject
from tunesmith.verbs.check import Job, jobs_of

TORCH = "torch"
RUNTIMES = (TORCH, "llama_cpp", "ollama", "transformers_js")


@dataclass(frozen=True)
class Places:
    """The runtimes and the variants that were asked for; None where nothing was named."""

    runtimes: Sequence[str] | None = None
    variants: Sequence[str] | None = None

    @property
    def elsewhere(self) -> list[str]:
        """The runtimes besides torch."""
        return [name for name in self.runtimes or RUNTIMES if name != TORCH]

    def of(self, subject: Subject) -> list[Job]:
        """The files that are asked, each in its runtime.

        Raises:
            RecipeError: `prove/no-variant`, for each name that no file has.
        """
        there = [job for job in jobs_of(subject) if job.runtime.kind in self.elsewhere]
        names = sorted({job.variant.name for job in there})
        fix = f"name some of {', '.join(names)}" if names else f"first: tunesmith export {subject.typed} --to gguf"
        unknown = [name for name in self.variants or () if name not in names]
        if unknown:
            raise RecipeError(
                [Fault("prove/no-variant", f"no export has a file {name!r}", fix=fix) for name in unknown]
            )
        return [job for job in there if self.variants is None or job.variant.name in self.variants]
