from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from tunesmith.risks._contract import N_PLACES, Found
from tunesmith.risks._row import Row
from tunesmith.risks._seen import Seen
from tunesmith.risks._words import are, rows

if TYPE_CHECKING:
    import numpy as np

HIGH = 0.01  # of the rows, where answers are labels


class Contradictions:
    """One prompt with different answers: a model can give one of them. Stories may vary, labels may not."""

    kind: ClassVar[str] = "contradictions"
    asks: ClassVar[str] = "Has one prompt different answers?"

    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    def see(self, row: Row) -> None:
        """Nothing of its own: what all members share is enough."""

    def found(self) -> tuple[Found, ...]:
        """The prompts to learn from that have more than one answer, with all their rows."""
        prompts, contents = self._seen.prompts(), self._seen.contents()
        by_prompt, sizes = _in_groups(prompts, ~self._seen.is_test() & (prompts != 0))
        if not len(sizes):
            return ()
        import numpy as np

        begins = np.cumsum(sizes) - sizes
        answers = contents[by_prompt]
        differs = answers != answers[begins].repeat(sizes)
        is_hit = np.logical_or.reduceat(differs, begins)
        if not is_hit.any():
            return ()
        hit = np.sort(by_prompt[is_hit.repeat(sizes)])
        first = int(np.argmin(np.where(is_hit, by_prompt[begins], len(contents))))
        group = slice(begins[first], begins[first] + sizes[first])
        pair = (int(by_prompt[group][0]), int(by_prompt[group][differs[group]][0]))
        return (self._found(int(is_hit.sum()), hit.tolist(), pair),)

    def _found(self, n_prompts: int, hit: list[int], pair: tuple[int, int]) -> Found:
        n, n_train = len(hit), self._seen.n_train
        is_label = self._seen.labels.is_set
        one, other = map(self._seen.place, pair)
        what = (
            f"{n_prompts:,} {are(n_prompts, 'prompt has', 'prompts have')} different answers, in {rows(n, n_train)}: "
            f"such as {one}, and {f'line {other.line}' if other.file == one.file else other}"
        )
        fix = "keep the right answer of each" if is_label else "keep one answer of each, unless they are meant to vary"
        places = tuple(map(self._seen.place, hit[:N_PLACES]))
        return Found(self.kind, "high" if is_label and n >= HIGH * n_train else "low", what, fix, n, places)


def _in_groups(
    keys: np.ndarray[Any, np.dtype[np.uint64]], wanted: np.ndarray[Any, np.dtype[np.bool_]]
) -> tuple[np.ndarray[Any, np.dtype[np.int64]], np.ndarray[Any, np.dtype[np.int64]]]:
    """The numbers of the wanted rows, equal keys side by side and each group in order; and the sizes of the groups."""
    import numpy as np

    numbers = np.flatnonzero(wanted)
    order = numbers[np.argsort(keys[numbers], kind="stable")]
    ordered = keys[order]
    begins = np.flatnonzero(np.r_[np.ones(min(1, len(order)), bool), ordered[1:] != ordered[:-1]])
    return order, np.diff(np.r_[begins, len(order)])
