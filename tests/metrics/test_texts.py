"""chrF, ROUGE and perplexity, by cases that a hand can compute."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from typing import Any

import pytest

from tunesmith.errors import RuntimeFault
from tunesmith.metrics._contract import Row
from tunesmith.metrics._scoring import scores
from tunesmith.metrics.chrf import Chrf
from tunesmith.metrics.perplexity import Perplexity
from tunesmith.metrics.rouge import Rouge


def test_chrf_of_two_letters_of_three_is_what_the_formula_gives() -> None:
    """ab for abc: orders 1 and 2 exist in both. Precision 1 and 1, recall 2/3 and 1/2; F with beta 2 of their means."""
    precision, recall = 1.0, (2 / 3 + 1 / 2) / 2
    wanted = 100 * 5 * precision * recall / (4 * precision + recall)
    assert Chrf().score(Row("ab", "abc")) == pytest.approx(wanted, abs=0.1)


def test_chrf_of_the_same_of_nothing_and_of_other_scripts() -> None:
    chrf = Chrf()
    assert chrf.score(Row("東京タワー", "東京タワー")) == 100
    assert chrf.score(Row("", "")) == 100
    assert chrf.score(Row("", "abc")) == 0
    assert chrf.score(Row("xyz", "abc")) == 0
    assert chrf.together([]) == {}
    assert chrf.together([Row("same here", "same here")]) == {"corpus": 100}


def test_rouge_l_is_the_longest_common_subsequence_of_words() -> None:
    """the cat sat: 3 words. a cat has sat: 4. Common in order: cat sat, 2. F1 = 2 x 2 / 7."""
    assert Rouge().score(Row("The cat sat.", "a cat has sat")) == pytest.approx(4 / 7)
    assert Rouge().score(Row("sat cat", "cat sat")) == pytest.approx(2 * 1 / 4)


def test_rouge_reads_words_of_every_script() -> None:
    assert Rouge().score(Row("Ёлка горит", "ёлка ГОРИТ!")) == 1
    assert Rouge().score(Row("schöne Grüße", "scho\u0308ne Gru\u0308ße")) == 1
    assert Rouge().score(Row("", "")) == 1
    assert Rouge().score(Row("", "word")) == 0
    assert Rouge().score(Row("?", "!")) == 0


def test_rouge_of_words_and_pairs_is_a_mean_over_rows() -> None:
    """The first row: 2 of 2 words, no pair. The second: all."""
    found = Rouge().together([Row("sat cat", "cat sat"), Row("a b", "a b")])
    assert found == {"rouge1": 1.0, "rouge2": 0.5}
    assert Rouge().together([]) == {}


@pytest.mark.parametrize("metric", [Chrf, Rouge])
def test_a_package_that_is_missing_is_named_with_the_command_that_brings_it(
    metric: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunesmith.metrics._libraries.find_spec", lambda name: None)
    with pytest.raises(RuntimeFault) as caught:
        metric().score(Row("said", "wanted"))
    (fault,) = caught.value.faults
    assert fault.code == "metric/missing-package"
    assert fault.fix == "pip install 'tunesmith[prove]'"
    assert [one.code for one in metric().refuse()] == ["metric/missing-package"]


def test_what_is_installed_is_not_refused_and_not_loaded() -> None:
    assert importlib.util.find_spec("sacrebleu") is not None
    assert Chrf().refuse() == Rouge().refuse() == []


def test_perplexity_counts_each_token_once() -> None:
    """1 nat over one token, and 0.5 over three: 2.5 nats over four tokens, and five characters."""
    rows = [Row("", "ab", logprobs=[-1.0]), Row("", "abc", logprobs=[-0.25, -1.0, -0.25]), Row("", "x")]
    metric = Perplexity()
    assert [metric.score(row) for row in rows] == [1.0, 0.5, None]
    found = scores(metric, rows).mean()
    assert found is not None
    assert (found.value, found.n) == (pytest.approx(2.5 / 4), 2)
    together = metric.together(rows)
    assert together == {"perplexity": pytest.approx(math.exp(0.625)), "nats_per_character": pytest.approx(0.5)}


def test_perplexity_of_nothing_and_of_what_cannot_be() -> None:
    metric = Perplexity()
    assert metric.together([Row("", "a")]) == metric.together([]) == {}
    never = Row("", "a", logprobs=[-math.inf])
    assert metric.score(never) == math.inf
    assert metric.together([never])["perplexity"] == math.inf
    assert metric.together([Row("", "", logprobs=[0.0])]) == {"perplexity": 1.0}
    found = scores(metric, [never, Row("", "b", logprobs=[-1.0])]).mean()
    assert found is not None
    assert (found.value, found.low, found.high) == (math.inf, -math.inf, math.inf)
