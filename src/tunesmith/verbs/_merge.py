"""An adapter that someone else trained, merged into its base, and held against the two of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith import say
from tunesmith.errors import ArtifactError, Fault
from tunesmith.text.template import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from peft import PeftModel
    from torch import Tensor

N_PROBE = 64  # tokens of a probe


def merge(adapter: Path, base: Path, into: Path) -> None:
    """A model folder that answers as the adapter on its base does.

    Raises:
        ArtifactError: `adapter/other-base`, `adapter/not-mergeable`, `adapter/merged-otherwise`, or
            `adapter/changes-nothing`.
    """
    from tunesmith.learn import agree
    from tunesmith.weights.merge import base_for, put_on

    with say.progress("merge the adapter into its base", 3, "steps") as bar:
        model = base_for(base, adapter)
        asked = _probes(model.config.get_text_config().vocab_size)
        before = agree.logprobs(model, asked)
        wrapped = put_on(model, adapter)
        tuned = agree.logprobs(wrapped, asked)
        bar.advance(1)
        tied = bool(model.config.get_text_config().tie_word_embeddings)
        del model
        gap = _written_gap(wrapped, adapter, base, into, asked, tuned)
        bar.advance(1)
        if not gap <= agree.SAME and tied:  # an update of one end of a tied pair moved the other too
            wrapped = put_on(base_for(base, adapter, untied=True), adapter)
            gap = _written_gap(wrapped, adapter, base, into, asked, tuned)
        _accept(gap, agree.gap(tuned, before), adapter)
        bar.advance(1)


def _probes(n_vocab: int) -> list[tuple[int, ...]]:
    """Ids from all over the vocabulary, and its last, where added tokens are."""
    spread = tuple(one * (n_vocab - 1) // (N_PROBE - 1) for one in range(N_PROBE))
    return [spread, tuple(range(max(0, n_vocab - N_PROBE), n_vocab))]


def _written_gap(
    wrapped: PeftModel,
    adapter: Path,
    base: Path,
    into: Path,
    asked: Sequence[tuple[int, ...]],
    tuned: Sequence[Tensor],
) -> float:
    """Write the merged model; how far the answers of what was written are from those of the adapter."""
    from tunesmith.learn import agree
    from tunesmith.weights.load import load
    from tunesmith.weights.merge import merged
    from tunesmith.weights.save import end_with, put_words_over, save

    save(merged(wrapped, adapter), base, into, "float32")
    put_words_over(adapter, into)
    end_with(into, Text.read(into).end_ids)
    return agree.gap(tuned, agree.logprobs(load(into), asked))


def _accept(gap: float, moved: float, adapter: Path) -> None:
    from tunesmith.learn.agree import MOVED, SAME

    if not gap <= SAME:
        what = f"merged, it answers otherwise than the adapter does: {gap:.1e} apart, and {SAME:.0e} is allowed"
        fix = "merge it where it was trained (merge_and_unload), and give the merged folder"
        raise ArtifactError(Fault("adapter/merged-otherwise", what, fix=fix, file=str(adapter)))
    if not moved > MOVED:
        what = f"with the adapter the base answers as without it ({moved:.1e} apart)"
        fix = "check that this is the adapter that was trained, and that --base is its base"
        raise ArtifactError(Fault("adapter/changes-nothing", what, fix=fix, file=str(adapter)))
