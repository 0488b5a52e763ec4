"""An adapter that someone else trained, merged into its base, and held against the two of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith import say
from tunesmith.errors import ArtifactError, Fault
from tunesmith.text.template import Text
from tunesmith.weights.facts import BaseFacts

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
    from tunesmith.weights.merge import SOFT, base_for, put_on, read_adapter_config

    if read_adapter_config(adapter)["peft_type"].upper() in SOFT:
        return _as_tokens(adapter, base, into)
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


def _as_tokens(adapter: Path, base: Path, into: Path) -> None:
    """A soft prompt's rows as tokens that the chat template puts first."""
    from tunesmith.learn import agree
    from tunesmith.text import virtual
    from tunesmith.weights import soft_rows
    from tunesmith.weights.load import load
    from tunesmith.weights.merge import base_for, put_on, read_adapter_config
    from tunesmith.weights.save import end_with, put_words_over, save

    with say.progress("make tokens of the soft prompt", 3, "steps") as bar:
        model = base_for(base, adapter)
        lead = _free_ids(adapter, base, int(read_adapter_config(adapter)["num_virtual_tokens"]))
        asked = _probes(lead[0])
        before = agree.logprobs(model, asked, lead)
        wrapped = put_on(model, adapter)
        tuned = agree.logprobs(wrapped, asked, lead, len(lead))
        bar.advance(1)
        soft_rows.put(model, wrapped.get_prompt(1)[0].detach().float(), lead[0])
        save(model, base, into, "float32")
        put_words_over(adapter, into)
        virtual.lead_with(into, lead)
        end_with(into, Text.read(into).end_ids)
        bar.advance(1)
        led = agree.logprobs(load(into), [(*lead, *ids) for ids in asked], lead, len(lead))
        _accept(agree.gap(tuned, led), agree.gap(tuned, before), adapter)
        bar.advance(1)


def _free_ids(adapter: Path, base: Path, n: int) -> tuple[int, ...]:
    """The next ids of the tokenizer that the adapter was trained with.

    Raises:
        ArtifactError: `adapter/not-mergeable`, where no tokenizer.json can take new tokens.
    """
    words = adapter if (adapter / "tokenizer.json").is_file() else base
    first = BaseFacts(str(words), words, {}).next_token
    if first is None:
        what = "its soft prompt becomes new tokens, and the base has no tokenizer.json that could take them"
        fix = "save the base's tokenizer with AutoTokenizer in Python, which writes one"
        raise ArtifactError(Fault("adapter/not-mergeable", what, fix=fix, file=str(adapter)))
    return tuple(range(first, first + n))


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
