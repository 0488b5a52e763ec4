"""Every cell of the delivery table that says exact, in the real runtimes, with the checks that any export has."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from needs import OllamaServer, need_node
from tiny.models import save
from tiny.rows import SHOP, write_chats
from tunesmith.recipe import Recipe
from tunesmith.verbs.run import run

SIZE = {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 3, "head_dim": 32}
PLAIN = {"gguf": ("f32", "q8_0"), "ollama": ("q8_0",), "web": ("fp32", "q4")}
RUNTIMES = {"gguf": ("llama_cpp",), "ollama": ("ollama",), "web": ("onnxruntime", "transformers_js")}
EVERYWHERE = ("gguf", "ollama", "web")
EVERY = [(family, tied) for family in ("llama", "qwen3", "gemma3_text") for tied in (True, False)]
HALF, OTHER_HALF = EVERY[::4] + EVERY[3:4], EVERY[1::4] + EVERY[2:3]  # each family once, both kinds of head


@dataclass(frozen=True)
class Way:
    """A method, the rate at which it moves these bases, where it goes, and on which shapes that is tried each time.

    With TUNESMITH_ALL_SHAPES set, all are.
    """

    method: dict[str, Any]
    rate: float
    exports: tuple[str, ...] = EVERYWHERE
    shapes: Sequence[tuple[str, bool]] = tuple(EVERY)


WAYS = {
    "freeze": Way({"kind": "freeze", "layers": 1, "head": True}, 1e-3, shapes=EVERY[:1]),
    "lora": Way({"kind": "lora", "rank": 8, "targets": ["q_proj", "embed_tokens", "lm_head"]}, 1e-2, shapes=EVERY[4:5]),
    "qlora": Way({"kind": "qlora", "rank": 8}, 1e-2, shapes=EVERY[2:3]),
    "adapter": Way({"kind": "adapter", "size": 40}, 1e-2, shapes=HALF),
    "adapter behind": Way({"kind": "adapter", "form": "houlsby", "size": 40}, 2e-2, ("web",), OTHER_HALF),
    "prompt": Way({"kind": "prompt", "length": 12}, 3e-1),
    "ptuning": Way({"kind": "ptuning", "length": 12}, 3e-1, shapes=EVERY[3:4]),
    "prefix": Way({"kind": "prefix", "length": 12}, 3e-2, ("web",), HALF),
    "prefix projected": Way({"kind": "prefix", "length": 12, "projection": 32}, 3e-2, ("web",), EVERY[1:2]),
}
ALL = bool(os.environ.get("TUNESMITH_ALL_SHAPES"))
CELLS = [(way, *shape) for way, one in WAYS.items() for shape in (EVERY if ALL else one.shapes)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chats(tmp_path_factory.mktemp("data") / "rows.jsonl", SHOP)


@pytest.fixture(scope="module")
def bases(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A base of each shape, that can spell the rows somewhat: a soft prompt calls up what is there."""
    made: dict[tuple[str, bool], Path] = {}

    def base(family: str, tied: bool) -> Path:
        if (family, tied) not in made:
            folder = tmp_path_factory.mktemp("base")
            save(folder / "random", family, tie_word_embeddings=tied, **SIZE)
            told = recipe(folder / "random", data, {"kind": "full"}, 2e-3, (), epochs=80)
            run(told, into=folder / "run")
            made[family, tied] = folder / "run" / "model"
        return made[family, tied]

    return base


def recipe(
    base: Path, data: Path, method: dict[str, Any], rate: float, exports: tuple[str, ...], *, epochs: int, **more: Any
) -> Recipe:
    options = {"gguf": {"types": list(PLAIN["gguf"])}, "web": {"dtypes": list(PLAIN["web"])}}
    told = {
        "base": str(base),
        "data": {"train": str(data)},
        "method": method,
        "run": {"epochs": epochs, "batch_size": 6, "gradient_accumulation_steps": 1, "learning_rate": rate},
        "export": [{"kind": kind, **options.get(kind, {})} for kind in exports],
        **more,
    }
    return Recipe.from_text(json.dumps(told))


@pytest.mark.slow
@pytest.mark.parametrize(("way", "family", "tied"), CELLS)
def test_every_runtime_answers_as_the_tuned_model_does(
    way: str,
    family: str,
    tied: bool,
    bases: Any,
    data: Path,
    tmp_path: Path,
    ollama_server: OllamaServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    need_node()
    monkeypatch.chdir(tmp_path)
    one, name = WAYS[way], f"{way}-{family}-{tied}".replace(" ", "-").lower()
    told = recipe(bases(family, tied), data, one.method, one.rate, one.exports, epochs=20)
    ran = run(told, into=tmp_path / name)
    assert ran.checked is not None
    assert [one for one in ran.checked.findings if one.verdict != "yes"] == []
    seen = {(one.runtime, one.variant) for one in ran.checked.findings}
    assert seen == {(runtime, variant) for kind in one.exports for runtime in RUNTIMES[kind] for variant in PLAIN[kind]}


@pytest.mark.slow
def test_a_text_is_gone_on_with_after_the_soft_prompt_in_every_runtime(
    tmp_path: Path, ollama_server: OllamaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_node()
    monkeypatch.chdir(tmp_path)
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog 0123456789. " * 40)
    way = WAYS["prompt"]
    random = save(tmp_path / "random", **SIZE)
    run(recipe(random, text, {"kind": "full"}, 2e-3, (), epochs=60, objective="uft"), into=tmp_path / "base")
    base, kinds = tmp_path / "base/model", (*way.exports, "safetensors")
    told = recipe(base, text, way.method, way.rate, kinds, epochs=8, objective="uft")
    ran = run(told, into=tmp_path / "prompt-on-text")
    assert ran.checked is not None
    assert [one for one in ran.checked.findings if one.verdict == "no"] == []
    asked = {(one.runtime, one.check) for one in ran.checked.findings if one.verdict == "yes"}
    checks = ("same_prompt", "same_tokens", "same_probabilities", "same_answer")
    runtimes = ("llama_cpp", "ollama", "onnxruntime", "transformers_js", "torch")
    assert asked >= {(runtime, check) for runtime in runtimes for check in checks}
    readme = (tmp_path / "prompt-on-text/exports/safetensors/README.md").read_text()
    assert "tokenizer('<|vt_0|><|vt_1|>" in readme
