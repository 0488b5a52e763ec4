"""Adapters of every shape that PEFT leaves: merged as they answer, or refused in words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tiny.models import save, tokenizer
from tunesmith.errors import ArtifactError, SourceError, TunesmithError
from tunesmith.runtimes.torch import open_folder
from tunesmith.text.template import Text
from tunesmith.verbs._subject import subject_of

Wrap = Callable[..., Path]
ASKED = [(3, 8, 40, 17), (5, 200, 300, 1)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("base") / "tiny")


def adapter(folder: Path, base: Path, *, rows: int = 0, words: Any = None, **options: Any) -> Path:
    """An adapter with random weights on the base, as `save_pretrained` leaves it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(3)
    loaded = AutoModelForCausalLM.from_pretrained(base)
    if rows:
        loaded.resize_token_embeddings(rows)
    options = {"r": 4, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM", **options}
    model = get_peft_model(loaded, LoraConfig(**options))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.requires_grad and "magnitude" not in name:
                weight.add_(torch.randn_like(weight) * 0.05)
    model.save_pretrained(folder)
    if words is not None:
        words.save_pretrained(folder)
    return folder


def answers(model: Any) -> Any:
    from tunesmith.learn.agree import logprobs

    return logprobs(model, ASKED)


def as_peft_loads_it(folder: Path, base: Path, rows: int = 0) -> Any:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(base)
    if rows:
        loaded.resize_token_embeddings(rows)
    return PeftModel.from_pretrained(loaded, folder)


def codes(caught: pytest.ExceptionInfo[TunesmithError]) -> list[str]:
    return [fault.code for fault in caught.value.faults]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_dora": True},
        {"use_rslora": True},
        {"modules_to_save": ["lm_head"]},
        {"modules_to_save": ["embed_tokens"]},
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"target_modules": ["q_proj", "lm_head"]},
        {"trainable_token_indices": [4, 5, 6]},
    ],
    ids=lambda options: "-".join(str(part) for one in options.items() for part in one) or "plain",
)
def test_what_is_merged_answers_as_the_adapter_does(options: dict[str, Any], base: Path, tmp_path: Path) -> None:
    """The head is tied to the embedding here: an update of one end must leave the other as it was."""
    from tunesmith.learn.agree import gap
    from tunesmith.weights.load import load

    made = adapter(tmp_path / "lora-out", base, **options)
    model = subject_of(made, into=tmp_path / "into").model
    wanted = answers(as_peft_loads_it(made, base))
    assert gap(answers(load(model.folder)), wanted) < 1e-4
    assert gap(answers(load(base)), wanted) > 1e-3


def test_an_adapter_with_added_tokens_merges_into_a_base_of_as_many_rows(base: Path, tmp_path: Path) -> None:
    from tunesmith.learn.agree import gap
    from tunesmith.weights.load import load

    words = tokenizer()
    words.add_tokens(["<tool>", "</tool>"])
    made = adapter(tmp_path / "lora-out", base, rows=len(words), words=words)
    model = subject_of(made, into=tmp_path / "into").model
    merged = load(model.folder)
    assert merged.config.vocab_size == len(words)
    assert gap(answers(merged), answers(as_peft_loads_it(made, base, len(words)))) < 1e-4
    assert "<tool>" in (model.folder / "tokenizer.json").read_text()


@pytest.mark.parametrize("which", ["prefix", "half", "more"])
def test_an_adapter_whose_weights_are_not_those_that_the_base_takes_is_refused(
    which: str, base: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    made = adapter(tmp_path / "lora-out", base)
    file = made / "adapter_model.safetensors"
    weights = load_file(file)
    if which == "prefix":
        weights = {f"other.{name}": weight for name, weight in weights.items()}
    elif which == "half":
        weights = {name: weight for name, weight in weights.items() if "layers.0" in name}
    else:
        weights |= {name.replace("layers.0", "layers.7"): weight.clone() for name, weight in weights.items()}
    save_file(weights, file)
    with pytest.raises(ArtifactError, match="such as") as caught:
        _ = subject_of(made, into=tmp_path / "into").model
    assert codes(caught) == ["adapter/other-base"]
    assert not (tmp_path / "into" / "model").exists()


def test_an_adapter_that_changes_nothing_is_refused(base: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    made = adapter(tmp_path / "lora-out", base)
    file = made / "adapter_model.safetensors"
    save_file({name: weight * ("lora_A" in name) for name, weight in load_file(file).items()}, file)
    with pytest.raises(ArtifactError) as caught:
        _ = subject_of(made, into=tmp_path / "into").model
    assert codes(caught) == ["adapter/changes-nothing"]


def test_a_merge_that_answers_otherwise_is_refused(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = adapter(tmp_path / "lora-out", base)
    monkeypatch.setattr("tunesmith.weights.merge.merged", lambda model, folder: model.unload())
    with pytest.raises(ArtifactError) as caught:
        _ = subject_of(made, into=tmp_path / "into").model
    assert codes(caught) == ["adapter/merged-otherwise"]


def test_broken_weights_of_an_adapter_are_said(base: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    made = adapter(tmp_path / "lora-out", base)
    file = made / "adapter_model.safetensors"
    whole = file.read_bytes()
    for cut in (whole[: len(whole) // 2], b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n"):
        file.write_bytes(cut)
        with pytest.raises(ArtifactError) as caught:
            subject_of(made)
        assert codes(caught) == ["adapter/damaged"]
    file.write_bytes(whole)
    save_file({name: weight * float("nan") for name, weight in load_file(file).items()}, file)
    with pytest.raises(ArtifactError) as caught:
        _ = subject_of(made, into=tmp_path / "into").model
    assert codes(caught) == ["adapter/not-mergeable"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"peft_type": "TELEPATHY"}, "adapter/unknown-type"),
        ({"alora_invocation_tokens": [1, 2]}, "adapter/not-mergeable"),
        ({"peft_type": "LILY"}, "adapter/not-mergeable"),
    ],
)
def test_adapters_of_kinds_that_cannot_be_merged_are_refused(
    changes: dict[str, Any], code: str, base: Path, tmp_path: Path
) -> None:
    made = adapter(tmp_path / "lora-out", base)
    config = made / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **changes}))
    with pytest.raises(ArtifactError) as caught:
        subject_of(made)
    assert codes(caught) == [code]


def test_the_base_is_taken_at_the_revision_that_the_adapter_names(base: Path, tmp_path: Path) -> None:
    made = adapter(tmp_path / "lora-out", base)
    config = made / "adapter_config.json"
    tree = {**json.loads(config.read_text()), "base_model_name_or_path": "org/tiny", "revision": "v1"}
    config.write_text(json.dumps(tree))
    assert subject_of(made).base == "org/tiny@v1"
    assert subject_of(made, base=str(base)).base == str(base)


def test_the_words_of_an_adapter_go_over_those_of_its_base(base: Path, tmp_path: Path) -> None:
    """What only the base has, such as tokenizer.model, stays; a template of the base does not hide the adapter's."""
    own = shutil.copytree(base, tmp_path / "base")
    (own / "tokenizer.model").write_bytes(b"pieces")
    made = adapter(tmp_path / "lora-out", own)
    into = tmp_path / "into"
    first = subject_of(made, into=into).model
    assert (first.folder / "tokenizer.model").read_bytes() == b"pieces"
    assert (first.folder / "chat_template.jinja").read_text() == (own / "chat_template.jinja").read_text()
    (made / "chat_template.jinja").write_text("{{ messages[-1]['content'] }}")
    second = subject_of(made, into=into).model
    assert (second.folder / "chat_template.jinja").read_text() == "{{ messages[-1]['content'] }}"
    assert second.identity != first.identity
    (made / "chat_template.jinja").unlink()
    words = tokenizer(template=None)
    words.save_pretrained(made)
    third = subject_of(made, into=into).model
    assert not (third.folder / "chat_template.jinja").exists()
    assert (third.folder / "tokenizer.model").read_bytes() == b"pieces"


def test_a_refusal_of_an_export_comes_before_the_merge(base: Path, tmp_path: Path) -> None:
    from tunesmith.errors import PlanError
    from tunesmith.verbs.check import check
    from tunesmith.verbs.export import export

    odd = shutil.copytree(base, tmp_path / "base")
    made = adapter(tmp_path / "lora-out", odd)
    config = odd / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "architectures": ["OddForCausalLM"]}))
    with pytest.raises(PlanError) as caught:
        export(made, to=["gguf"], into=tmp_path / "into")
    assert codes(caught) == ["export/unknown-architecture"]
    with pytest.raises(ArtifactError) as nothing:
        check(made, into=tmp_path / "into")
    assert codes(nothing) == ["check/nothing-exported"]
    assert not (tmp_path / "into").exists()


def test_a_model_folder_that_is_not_whole_is_refused(base: Path, tmp_path: Path) -> None:
    def broken(name: str) -> Path:
        return shutil.copytree(base, tmp_path / name)

    pointer, cut, wordless, sharded = (broken(name) for name in ("pointer", "cut", "wordless", "sharded"))
    (pointer / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    (cut / "model.safetensors").write_bytes((base / "model.safetensors").read_bytes()[:5000])
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (wordless / file).unlink()
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
    for folder, code in (
        (pointer, "source/weights-damaged"),
        (cut, "source/weights-damaged"),
        (wordless, "source/no-tokenizer"),
        (sharded, "source/weights-missing"),
    ):
        with pytest.raises(SourceError) as caught:
            subject_of(folder)
        assert codes(caught) == [code]


def soft(folder: Path, base: Path, kind: str) -> Path:
    """A soft prompt on the base, as PEFT's `save_pretrained` leaves it."""
    import torch
    from peft import PromptEncoderConfig, PromptTuningConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(3)
    made = {"prompt": PromptTuningConfig, "p-tuning": PromptEncoderConfig}[kind]
    more = {"encoder_hidden_size": 32} if kind == "p-tuning" else {}
    config = made(task_type="CAUSAL_LM", num_virtual_tokens=5, **more)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["prompt", "p-tuning"])
def test_a_soft_prompt_of_peft_becomes_tokens_that_stand_first(kind: str, base: Path, tmp_path: Path) -> None:
    """PEFT puts its rows before the prompt; here the prompt begins with their tokens."""
    import torch

    made = soft(tmp_path / "soft-out", base, kind)
    model = subject_of(made, into=tmp_path / "into").model
    before, text = Text.read(base), Text.read(model.folder)
    ask = [{"role": "user", "content": "hello"}]
    prompt = text.prompt(ask)
    assert prompt.ids[5:] == before.prompt(ask).ids
    assert set(prompt.ids[:5]) == text.never
    with torch.no_grad():
        theirs = as_peft_loads_it(made, base)(input_ids=torch.tensor([before.prompt(ask).ids])).logits[0, -1]
    with open_folder(model.folder) as ours:
        told = ours.logprobs(prompt, 10)
    assert told == pytest.approx(dict(zip(told, theirs.log_softmax(-1)[list(told)].tolist(), strict=True)), abs=1e-4)


def test_a_soft_prompt_whose_base_takes_no_tokens_is_refused(base: Path, tmp_path: Path) -> None:
    import shutil

    made = soft(tmp_path / "soft-out", base, "prompt")
    bare = shutil.copytree(base, tmp_path / "bare")
    (bare / "tokenizer.json").rename(bare / "tokenizer.model")  # of whatever kind: it takes no tokens from us
    with pytest.raises(ArtifactError) as caught:
        _ = subject_of(made, base=str(bare), into=tmp_path / "into").model
    assert codes(caught) == ["adapter/not-mergeable"]
