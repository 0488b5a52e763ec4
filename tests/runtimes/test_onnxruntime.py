"""ONNX Runtime in Python, on the files of a web export."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tiny.learnt import ANSWERS
from tunesmith.artifact import Export, Variant
from tunesmith.errors import RuntimeFault
from tunesmith.runtimes.onnxruntime import OnnxRuntime
from tunesmith.runtimes.torch import open_folder
from tunesmith.text.template import Text


@pytest.fixture
def web(learnt_web: Export) -> Export:
    return learnt_web


def test_it_says_its_version() -> None:
    found = OnnxRuntime().present()
    assert found.here
    assert found.version[0].isdigit()


def test_it_answers_what_was_learnt_and_stops_by_itself(learnt_model: Path, web: Export) -> None:
    with OnnxRuntime().open(web, "fp32", Text.read(learnt_model)) as opened:
        for question, wanted in ANSWERS.items():
            answer = opened.answer([{"role": "user", "content": question}], 32)
            assert answer.text == wanted
            assert answer.stopped
            assert answer.n_prompt_tokens > 0
            assert answer.seconds > 0


def test_an_answer_that_is_cut_says_so(learnt_model: Path, web: Export) -> None:
    with OnnxRuntime().open(web, "fp32", Text.read(learnt_model)) as opened:
        answer = opened.answer([{"role": "user", "content": "Say hello."}], 2)
    assert answer.n_answer_tokens == 2
    assert not answer.stopped


def test_probabilities_are_those_of_torch_and_sum_to_one(learnt_model: Path, web: Export) -> None:
    import math

    text = Text.read(learnt_model)
    prompt = text.prompt([{"role": "user", "content": "naïve 東京"}])
    with OnnxRuntime().open(web, "fp32", text) as opened, open_folder(learnt_model, text) as torch:
        seen, wanted = opened.logprobs(prompt, 10_000), torch.logprobs(prompt, 10_000)
    assert sum(map(math.exp, seen.values())) == pytest.approx(1)
    assert list(seen)[:5] == list(wanted)[:5]
    assert max(abs(value - seen[token]) for token, value in wanted.items()) < 1e-4


def test_the_tokenizer_that_is_used_is_the_exported_one(learnt_model: Path, web: Export, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    shutil.copytree(web.folder, folder)
    settings = folder / "model/tokenizer_config.json"
    settings.write_text(settings.read_text().replace("You are tiny.", "You are spoilt."))
    variant = web.variants["fp32"]
    moved = Variant("fp32", folder / variant.path.relative_to(web.folder), variant.n_bytes, variant.precision)
    with OnnxRuntime().open(Export("web", folder, {"fp32": moved}), "fp32", Text.read(learnt_model)) as opened:
        assert "spoilt" in opened.render([{"role": "user", "content": "hi"}])


def test_a_file_cut_short_is_a_fault_of_one_line(learnt_model: Path, web: Export, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    shutil.copytree(web.folder, folder)
    file = folder / "model/onnx/model.onnx"
    file.write_bytes(file.read_bytes()[:1000])
    broken = Export("web", folder, {"fp32": Variant("fp32", file, 1000, "float32")})
    with pytest.raises(RuntimeFault) as caught, OnnxRuntime().open(broken, "fp32", Text.read(learnt_model)):
        pass
    assert [fault.code for fault in caught.value.faults] == ["onnxruntime/cannot-load"]
    assert "\n" not in caught.value.faults[0].what
