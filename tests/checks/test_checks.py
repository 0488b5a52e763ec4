from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from tiny.learnt import ANSWERS, save_learnt
from tunesmith.artifact import Export, Variant
from tunesmith.checks._battery import battery
from tunesmith.checks._bounds import FLOAT32_FLOOR, logprob_bound
from tunesmith.checks._contract import Case
from tunesmith.checks._positions import Place, _as_ratios
from tunesmith.checks._remember import Remembered
from tunesmith.checks.same_answer import SameAnswer
from tunesmith.checks.same_probabilities import SameProbabilities
from tunesmith.checks.same_prompt import SamePrompt
from tunesmith.checks.same_tokens import SameTokens
from tunesmith.checks.stops import Stops
from tunesmith.errors import CannotTell
from tunesmith.runtimes._contract import Answer
from tunesmith.runtimes.torch import Torch, TorchOpened
from tunesmith.text.template import Text
from tunesmith.weights.load import load

ASKS = [[{"role": "user", "content": question}] for question in ANSWERS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_learnt(tmp_path_factory.mktemp("learnt"))


@pytest.fixture
def case(folder: Path) -> Case:
    """Torch against itself: every check must say yes."""
    text = Text.read(folder)
    variant = Variant("f32", folder, 0, "float32")
    return Case(text, TorchOpened(load(folder), text), TorchOpened(load(folder), text), True, variant, 2, ASKS, 40)


CHECKS = [SamePrompt, SameTokens, SameProbabilities, SameAnswer, Stops]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "8bit", "4bit"])
def test_the_same_model_passes_every_check(case: Case, check: type, precision: str) -> None:
    case = dataclasses.replace(case, variant=dataclasses.replace(case.variant, precision=precision))
    assert check().look(case).verdict == "yes"


def test_another_template_is_seen(case: Case) -> None:
    other = Text.read(case.variant.path)
    other.tokenizer.chat_template = str(other.tokenizer.chat_template).replace("You are tiny.", "You are big.")
    look = SamePrompt().look(dataclasses.replace(case, other=TorchOpened(case.reference.model, other)))
    assert (look.verdict, look.measured) == ("no", f"0 of {len(ASKS)}")
    assert "'<|im_start|>system\\nY" not in look.why
    assert "tiny" in look.why
    assert "big" in look.why


def test_a_second_beginning_token_is_seen(case: Case) -> None:
    class Doubled(TorchOpened):
        def tokens(self, text: str) -> list[int]:
            return [1, *super().tokens(text)]

    look = SameTokens().look(dataclasses.replace(case, other=Doubled(case.reference.model, case.text)))
    assert look.verdict == "no"
    assert look.why.startswith("at token 1:")  # the prompt itself begins with token 1, so the second place differs


def test_a_wrong_number_of_tokens_is_seen_where_no_ids_are_shown(case: Case) -> None:
    class Counted(TorchOpened):
        def tokens(self, text: str) -> int:
            return len(super().tokens(text)) + 1

    other = Counted(case.reference.model, case.text)
    assert SameTokens().look(dataclasses.replace(case, other=other)).verdict == "no"


def test_slightly_other_weights_fail_at_float32_and_not_as_quantised(case: Case) -> None:
    import torch

    model = load(case.variant.path)
    with torch.no_grad():
        model.model.norm.weight.mul_(1.01)
    other = dataclasses.replace(case, other=TorchOpened(model, case.text))
    assert SameProbabilities().look(other).verdict == "no"
    eight = dataclasses.replace(other, variant=dataclasses.replace(case.variant, precision="8bit"))
    assert SameProbabilities().look(eight).verdict == "yes"


@pytest.mark.parametrize("precision", ["float32", "8bit", "4bit"])
def test_other_weights_fail_at_every_precision(case: Case, tmp_path: Path, precision: str) -> None:
    from tiny.models import save

    other = TorchOpened(load(save(tmp_path, seed=7)), case.text)
    variant = dataclasses.replace(case.variant, precision=precision)
    changed = dataclasses.replace(case, other=other, variant=variant)
    assert SameProbabilities().look(changed).verdict == "no"
    assert SameAnswer().look(changed).verdict == "no"


def test_an_answer_that_never_ends_is_seen(case: Case) -> None:
    endless = TorchOpened(case.reference.model, dataclasses.replace(case.text, end_ids=frozenset()))
    look = Stops().look(dataclasses.replace(case, other=endless))
    assert (look.verdict, look.measured) == ("no", f"0 of {len(ASKS)}")


def test_nothing_is_told_of_stopping_when_the_model_itself_does_not_stop(case: Case) -> None:
    look = Stops().look(dataclasses.replace(case, max_tokens=2))
    assert (look.verdict, look.why) == ("cannot_tell", "the model itself does not end within 2 tokens")


@pytest.mark.parametrize("precision", ["8bit", "4bit"])
def test_a_quantised_file_that_lost_its_end_token_is_seen_though_one_answer_ends(case: Case, precision: str) -> None:
    class GoesOn(TorchOpened):
        def answer(self, ask: Any, max_tokens: int) -> Answer:
            told = super().answer(ask, max_tokens)
            return told if ask is ASKS[0] else dataclasses.replace(told, text=told.text + "more", stopped=False)

    variant = dataclasses.replace(case.variant, precision=precision)
    look = Stops().look(dataclasses.replace(case, other=GoesOn(case.reference.model, case.text), variant=variant))
    assert (look.verdict, look.measured, look.bound) == ("no", "1 of 4", "4 of 4")


@pytest.mark.parametrize(("n_cut", "verdict"), [(1, "yes"), (2, "yes"), (3, "no")])
def test_a_quantised_answer_in_other_words_may_be_cut_but_half_of_all_end(case: Case, n_cut: int, verdict: str) -> None:
    class OtherWords(TorchOpened):
        def answer(self, ask: Any, max_tokens: int) -> Answer:
            told = super().answer(ask, max_tokens)
            return dataclasses.replace(told, text="other", stopped=False) if ask in ASKS[:n_cut] else told

    variant = dataclasses.replace(case.variant, precision="4bit")
    look = Stops().look(dataclasses.replace(case, other=OtherWords(case.reference.model, case.text), variant=variant))
    assert (look.verdict, look.measured) == (verdict, f"{4 - n_cut} of 4")


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "8bit", "4bit"])
def test_a_runtime_that_lists_one_wrong_token_alone_is_seen(case: Case, precision: str) -> None:
    class Wrong(TorchOpened):
        def logprobs(self, prompt: Any, top: int) -> dict[int, float]:
            right = next(iter(super().logprobs(prompt, 1)))
            return {right + 1: math.log(0.99)}

    variant = dataclasses.replace(case.variant, precision=precision)
    look = SameProbabilities().look(
        dataclasses.replace(case, other=Wrong(case.reference.model, case.text), variant=variant)
    )
    assert look.verdict == "no"
    assert float(str(look.measured)) > 2


@pytest.mark.parametrize(("n_wrong", "verdict"), [(0, "yes"), (1, "yes"), (2, "no")])
def test_of_the_few_places_of_four_answers_one_may_differ_in_8_bits(case: Case, n_wrong: int, verdict: str) -> None:
    class Off(TorchOpened):
        asked: ClassVar[set[Any]] = set()

        def logprobs(self, prompt: Any, top: int) -> dict[int, float]:
            told = dict(super().logprobs(prompt, top))
            if len(self.asked) < n_wrong or prompt in self.asked:
                self.asked.add(prompt)
                first, second, *_ = told
                told[first], told[second] = told[second], told[first]
            return told

    other = Off(case.reference.model, case.text)
    other.asked.clear()
    variant = dataclasses.replace(case.variant, precision="8bit")
    look = SameAnswer().look(dataclasses.replace(case, other=other, variant=variant))
    n_places = int(look.why.split()[-2])
    assert 10 < n_places < 20  # of which 95 % leave no second one
    assert look.why.startswith(f"likeliest token the same at {n_places - n_wrong} of")
    assert look.verdict == verdict


@pytest.mark.parametrize("precision", ["float32", "8bit"])
def test_lists_too_short_for_a_verdict_are_no_yes(case: Case, precision: str) -> None:
    """The likeliest token alone, and of a flat distribution: it agrees, and says next to nothing."""

    class Flat(TorchOpened):
        n_listed = 10

        def logprobs(self, prompt: Any, top: int) -> dict[int, float]:
            return {one: math.log(0.1) - one / 1e6 for one in range(min(top, self.n_listed))}

    class Short(Flat):
        n_listed = 2

    flat, short = (kind(case.reference.model, case.text) for kind in (Flat, Short))
    variant = dataclasses.replace(case.variant, precision=precision)
    with pytest.raises(CannotTell, match="at 0 of"):
        SameProbabilities().look(dataclasses.replace(case, reference=ForwardGreedy(flat), other=short, variant=variant))
    look = SameProbabilities().look(
        dataclasses.replace(case, reference=ForwardGreedy(flat), other=flat, variant=variant)
    )
    assert look.verdict == "yes"
    assert "places" in look.why


class ForwardGreedy:
    def __init__(self, opened: TorchOpened) -> None:
        self.logprobs, self.greedy = opened.logprobs, opened.greedy


def test_kl_is_what_a_hand_computes() -> None:
    p = {0: math.log(0.5), 1: math.log(0.3)}
    q = {0: math.log(0.25), 1: math.log(0.5)}
    by_hand = 0.5 * math.log(0.5 / 0.25) + 0.3 * math.log(0.3 / 0.5) + 0.2 * math.log(0.2 / 0.25)
    assert Place(p, q).kl == pytest.approx(by_hand, rel=1e-12)
    assert Place(p, p).kl == 0.0


def test_a_token_that_is_not_listed_has_at_most_the_least_listed_probability_and_what_is_left() -> None:
    p = {0: math.log(0.9)}
    beside_two = Place(p, {1: math.log(0.3), 2: math.log(0.2)})  # half is left, but a likelier one would be listed
    assert beside_two.kl == pytest.approx(0.9 * math.log(0.9 / 0.2) + 0.1 * math.log(0.1), rel=1e-12)
    beside_one = Place(p, {1: math.log(0.99)})
    assert beside_one.kl == pytest.approx(0.9 * math.log(0.9 / 0.01) + 0.1 * math.log(0.1), rel=1e-12)
    assert beside_one.difference == pytest.approx(math.log(90), rel=1e-12)


def test_a_place_is_covered_by_nine_tenths_of_what_the_reference_expects() -> None:
    p = {0: math.log(0.5), 1: math.log(0.3)}
    assert Place(p, p).is_covered
    assert not Place(p, {0: math.log(0.5)}).is_covered


def test_bounds_follow_the_type() -> None:
    assert logprob_bound("float32", 30) == FLOAT32_FLOOR
    assert logprob_bound("bfloat16", 24) == pytest.approx(2 * 16 * 2**-9 * 7)
    assert logprob_bound("float16", 24) == pytest.approx(2 * 16 * 2**-12 * 7)


def test_the_battery_leaves_out_what_a_template_refuses(case: Case) -> None:
    assert len(battery(case.text, raw_text=False)) == 5
    strict = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    refusing = Text.read(case.variant.path)
    refusing.tokenizer.chat_template = strict + str(refusing.tokenizer.chat_template)
    assert len(battery(refusing, raw_text=False)) == 4
    assert all(isinstance(ask, str) for ask in battery(case.text, raw_text=True))


def test_a_remembered_runtime_is_asked_once(case: Case) -> None:
    class Counting(TorchOpened):
        def render(self, ask: object) -> str:
            counts.append(1)
            return "x"

    counts: list[int] = []
    remembered = Remembered(Counting(case.reference.model, case.text))
    assert [remembered.render(ASKS[0]) for _ in range(3)] == ["x", "x", "x"]
    assert len(counts) == 1


@pytest.mark.parametrize("precision", ["float32", "8bit"])
def test_the_reference_writes_each_answer_once_for_all_checks(case: Case, precision: str) -> None:
    class Counting(TorchOpened):
        def _generate(self, prompts: Any, max_tokens: int, clock: Any) -> Any:
            counts.extend(prompts)
            return super()._generate(prompts, max_tokens, clock)

    counts: list[Any] = []
    reference = Remembered(Counting(case.reference.model, case.text))
    variant = dataclasses.replace(case.variant, precision=precision)
    for check in CHECKS:
        assert check().look(dataclasses.replace(case, reference=reference, variant=variant)).verdict == "yes"
    assert len(counts) == len(ASKS)


def test_a_longer_list_answers_for_a_shorter_one(case: Case) -> None:
    class Counting(TorchOpened):
        def logprobs(self, prompt: Any, top: int) -> Any:
            counts.append(top)
            return super().logprobs(prompt, top)

    counts: list[int] = []
    opened, prompt = Counting(case.reference.model, case.text), case.text.prompt(ASKS[0])
    remembered = Remembered(opened)
    many, few = remembered.logprobs(prompt, 100), remembered.logprobs(prompt, 10)
    assert counts == [100]
    assert (len(many), len(few)) == (100, 10)
    assert few == opened.logprobs(prompt, 10)


def test_the_words_of_a_safetensors_export_are_its_own(case: Case, tmp_path: Path) -> None:
    """The weights and the tokenizer stay, its template is another: the reference's words must not stand in."""
    import shutil

    copy = shutil.copytree(case.variant.path, tmp_path / "copy")
    for file in (copy / "chat_template.jinja", copy / "tokenizer_config.json"):
        if file.is_file():
            file.write_text(file.read_text().replace("You are tiny.", "You are big."))
    variant = dataclasses.replace(case.variant, path=copy)
    with Torch().open(Export("safetensors", copy, {"float32": variant}), "float32", case.text) as opened:
        assert SamePrompt().look(dataclasses.replace(case, other=opened)).verdict == "no"


class Unsuppressed:
    """What Ollama tells: probabilities before tokens are suppressed, and none of what writes nothing."""

    def __init__(self, opened: TorchOpened, off_by: float = 0.0) -> None:
        self.opened, self.off_by = opened, off_by

    def logprobs(self, prompt: Any, top: int) -> dict[int, float]:
        whole = dataclasses.replace(self.opened.text, never=frozenset())
        told = dataclasses.replace(self.opened, text=whole).logprobs(prompt, top)
        unwritten = self.opened.text.never | set(self.opened.text.tokenizer.all_special_ids)
        kept = {one: value for one, value in told.items() if one not in unwritten}
        first = next(iter(kept))
        return {**kept, first: kept[first] - self.off_by}


@pytest.mark.parametrize(("off_by", "verdict"), [(0.0, "yes"), (0.5, "no")])
def test_probabilities_before_suppression_are_compared_by_their_ratios(case: Case, off_by: float, verdict: str) -> None:
    """The likeliest token is said never to come, so that all others have other probabilities than before."""
    prompt = case.text.prompt(ASKS[0])
    likeliest = next(iter(case.reference.logprobs(prompt, 1)))
    text = dataclasses.replace(case.text, never=frozenset([likeliest]))
    reference = dataclasses.replace(case.reference, text=text)
    assert likeliest not in reference.logprobs(prompt, 10)
    assert sum(math.exp(value) for value in reference.logprobs(prompt, 1000).values()) == pytest.approx(1)
    other: Any = Unsuppressed(reference, off_by)
    led = dataclasses.replace(case, text=text, reference=reference, other=other, takes_ids=False)
    assert SameProbabilities().look(led).verdict == verdict


def test_tokens_that_a_runtime_holds_for_all_but_impossible_are_still_compared_by_their_ratios() -> None:
    """Before it suppresses the virtual tokens, a runtime may give them all of the probability."""
    text = SimpleNamespace(tokenizer=SimpleNamespace(all_special_ids=[9]), end_ids=frozenset({8}))
    wanted = {1: math.log(0.75), 2: math.log(0.25), 9: -50.0}
    place = _as_ratios(SimpleNamespace(text=text), wanted, {1: -80.0, 2: -80.0 + math.log(1 / 3), 7: -81.0})  # type: ignore[arg-type]
    assert place.wanted == {1: wanted[1], 2: wanted[2]}
    assert [place.seen[one] for one in (1, 2)] == [pytest.approx(wanted[one]) for one in (1, 2)]


def test_of_tokens_that_float32_has_rounded_to_nothing_no_number_is_made() -> None:
    """Beside one that it still tells, they count as not listed: as no less likely than they may be."""
    text = SimpleNamespace(tokenizer=SimpleNamespace(all_special_ids=[9]), end_ids=frozenset({8}))
    wanted = {1: math.log(0.999), 2: math.log(0.001)}
    place = _as_ratios(SimpleNamespace(text=text), wanted, {1: -80.0, 2: -3.4028234663852886e38})  # type: ignore[arg-type]
    assert place.seen == {1: pytest.approx(wanted[1])}
    assert not place.only_ranks
    assert place.difference < 1e-6
    assert place.kl < 0.01


@dataclasses.dataclass(frozen=True)
class RanksOnly:
    """As llama.cpp tells them in float32 where a suppressed token has all of the probability."""

    opened: Any

    def logprobs(self, prompt: Any, top: int) -> dict[int, float]:
        return dict.fromkeys(self.opened.logprobs(prompt, top), -3.4028234663852886e38)


def test_where_float32_has_rounded_all_to_nothing_the_ranks_are_judged_and_the_numbers_are_not(case: Case) -> None:
    text = dataclasses.replace(case.text, never=frozenset([case.text.encode("Q")[0]]))
    other: Any = RanksOnly(case.reference)
    variant = dataclasses.replace(case.variant, precision="8bit")
    led = dataclasses.replace(case, text=text, other=other, takes_ids=False, variant=variant)
    assert led.quantised
    assert SameAnswer().look(led).measured == 1.0
    with pytest.raises(CannotTell, match="has all of the probability"):
        SameProbabilities().look(led)
