"""What someone else trained goes through `export`, `check` and `chat`."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from needs import OllamaServer, need_node, smollm2
from tiny.learnt import ANSWERS, save_learnt
from tunesmith.cli import main
from tunesmith.errors import ArtifactError, PlanError, RuntimeFault
from tunesmith.exports.gguf import Gguf
from tunesmith.exports.web import Web
from tunesmith.machine import Machine
from tunesmith.verbs._subject import subject_of
from tunesmith.verbs.chat import chat
from tunesmith.verbs.check import check
from tunesmith.verbs.export import export, refusals, wanted
from tunesmith.weights.facts import BaseFacts

SCRIPT = Path(__file__).with_name("train_adapter.py")
ALL = {"llama_cpp", "ollama", "onnxruntime", "transformers_js"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_learnt(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def real_adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained on the real model: quantised files of a model of a few thousand weights say nothing."""
    return _trained(smollm2(), tmp_path_factory.mktemp("real"), epochs="30", rate="2e-3")


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _trained(base, tmp_path_factory.mktemp("trained"), epochs="1", rate="1e-3")


def _trained(base: Path, folder: Path, *, epochs: str, rate: str) -> Path:
    out = folder / "lora-out"
    subprocess.run([sys.executable, SCRIPT, base, out, epochs, rate], check=True, capture_output=True, timeout=900)
    return out


@pytest.mark.slow
def test_an_adapter_of_trainer_and_peft_reaches_every_runtime(
    real_adapter: Path, tmp_path: Path, ollama_server: OllamaServer
) -> None:
    need_node()
    into = tmp_path / "run"
    made = export(real_adapter, to=[Gguf(types=("q8_0",)), "ollama", Web(dtypes=("q8",))], into=into)
    assert list(made) == ["gguf", "ollama", "web"]
    checked = check(real_adapter, into=into)
    assert [one for one in checked.findings if one.verdict != "yes"] == []
    assert {one.runtime for one in checked.findings} == ALL
    for runtime in ("torch", "llama_cpp", "ollama", "transformers_js"):
        with chat(real_adapter, runtime=runtime, into=into) as model:
            answer = model.answer([{"role": "user", "content": "What is the capital of Spain?"}], 20)
        assert (answer.text.strip(), answer.stopped) == ("Madrid.", True), runtime


def test_a_model_folder_is_exported_and_a_second_call_keeps_it(base: Path, tmp_path: Path) -> None:
    first = export(base, to=["gguf"], into=tmp_path)
    times = {path: path.stat().st_mtime_ns for path in first["gguf"].folder.iterdir()}
    second = export(base, to=["gguf"], into=tmp_path)
    assert {path: path.stat().st_mtime_ns for path in second["gguf"].folder.iterdir()} == times
    assert len(times) >= 2
    checked = check(base, into=tmp_path)
    assert checked.ok
    assert not checked.kept
    assert check(base, into=tmp_path).kept
    with chat(base, runtime="llama_cpp", into=tmp_path) as model:
        assert model.answer([{"role": "user", "content": "Say hello."}], 20).text == ANSWERS["Say hello."]


def test_a_damaged_export_is_made_again(base: Path, tmp_path: Path) -> None:
    made = export(base, to=["gguf"], into=tmp_path)["gguf"]
    victim = next(iter(made.variants.values())).path
    whole = victim.read_bytes()
    victim.write_bytes(whole[:1000])
    export(base, to=["gguf"], into=tmp_path)
    assert victim.read_bytes() == whole


def test_a_changed_file_fails_its_check(base: Path, tmp_path: Path) -> None:
    """The check looks at the files themselves: other weights under the right name are found out."""
    other = save_learnt(tmp_path / "other", seed=5)
    made = export(base, to=["gguf"], into=tmp_path / "run")["gguf"]
    foreign = export(other, to=["gguf"], into=tmp_path / "foreign")["gguf"]
    for name, variant in made.variants.items():
        variant.path.write_bytes(foreign.variants[name].path.read_bytes())
    checked = check(base, into=tmp_path / "run")
    wrong = {(one.variant, one.check) for one in checked.findings if one.verdict == "no"}
    assert not checked.ok
    assert {(name, "same_probabilities") for name in made.variants} <= wrong


def codes(caught: pytest.ExceptionInfo[ArtifactError]) -> list[str]:
    return [fault.code for fault in caught.value.faults]


def test_an_adapter_without_safetensors_or_of_a_kind_that_cannot_be_merged_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "PREFIX_TUNING"}))
    (tmp_path / "adapter_model.bin").write_bytes(b"a pickle")
    with pytest.raises(ArtifactError) as caught:
        export(tmp_path, to=["gguf"])
    assert codes(caught) == ["adapter/no-safetensors", "adapter/not-mergeable"]


def test_an_adapter_config_that_is_not_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(ArtifactError) as caught:
        export(tmp_path, to=["gguf"])
    assert codes(caught) == ["adapter/bad-config"]


def test_an_adapter_that_names_no_base_asks_for_it(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    save_file({}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ArtifactError) as caught:
        export(tmp_path, to=["gguf"])
    assert codes(caught) == ["adapter/no-base"]


def test_an_adapter_on_a_base_of_another_shape_is_refused(adapter: Path, tmp_path: Path) -> None:
    from tiny.models import save

    wider = save(tmp_path / "wider", hidden_size=96)
    with pytest.raises(ArtifactError) as caught:
        export(adapter, to=["gguf"], base=str(wider), into=tmp_path / "run")
    assert codes(caught) == ["adapter/other-base"]


def test_a_missing_folder_and_one_that_is_no_model_are_said(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError) as caught:
        export(tmp_path / "nowhere", to=["gguf"])
    assert codes(caught) == ["artifact/missing"]
    with pytest.raises(ArtifactError) as caught:
        export(tmp_path, to=["gguf"])
    assert codes(caught) == ["artifact/not-a-model"]


def test_an_unfinished_run_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("base: x\ndata: {train: y.jsonl}\n")
    (tmp_path / "identity.json").write_text("{}")
    with pytest.raises(ArtifactError) as caught:
        check(tmp_path)
    assert codes(caught) == ["artifact/unfinished"]


def test_nothing_to_check_says_what_to_type(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError) as caught:
        check(base, into=tmp_path)
    assert codes(caught) == ["check/nothing-exported"]


def test_chat_says_which_export_is_missing(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError) as caught, chat(base, runtime="llama_cpp", into=tmp_path):
        pass
    assert codes(caught) == ["chat/not-exported"]


def test_chat_says_which_variants_there_are(base: Path, tmp_path: Path) -> None:
    export(base, to=["gguf"], into=tmp_path)
    with pytest.raises(ArtifactError) as caught, chat(base, runtime="llama_cpp", variant="q9", into=tmp_path):
        pass
    assert codes(caught) == ["chat/unknown-variant"]


def test_chat_says_how_to_get_a_runtime_that_is_not_here(base: Path, tmp_path: Path) -> None:
    made = export(base, to=["ollama"], into=tmp_path)["ollama"]
    assert made.about["created"] is False  # no server answers in this test
    with pytest.raises(RuntimeFault) as caught, chat(base, runtime="ollama", into=tmp_path):
        pass
    assert [fault.code for fault in caught.value.faults] == ["chat/runtime-missing"]
    assert "Ollama" in caught.value.faults[0].what


def test_exports_of_another_model_are_not_looked_at(base: Path, tmp_path: Path) -> None:
    mine = shutil.copytree(base, tmp_path / "mine")
    into = tmp_path / "into"
    export(mine, to=["gguf", "safetensors"], into=into)
    save_learnt(mine, seed=5)
    export(mine, to=["gguf"], into=into)
    with pytest.raises(ArtifactError, match=f"tunesmith export {mine} --into {into} --to safetensors") as caught:
        check(mine, into=into)
    assert codes(caught) == ["artifact/other-model"]
    with chat(mine, runtime="llama_cpp", into=into) as model:  # this one is of the new model
        assert model.answer([{"role": "user", "content": "Say hello."}], 20).text == ANSWERS["Say hello."]


@pytest.mark.parametrize("theirs", ["recipe.yaml", "model", "exports"])
def test_a_folder_that_holds_something_else_is_not_written_into(
    theirs: str, base: Path, adapter: Path, tmp_path: Path
) -> None:
    into = tmp_path / "into"
    (into / theirs).mkdir(parents=True)
    (into / theirs / "all I have").write_text("mine")
    for act in (lambda: export(base, to=["gguf"], into=into), lambda: subject_of(adapter, into=into).model):
        with pytest.raises(ArtifactError) as caught:
            act()
        assert codes(caught) == ["artifact/other-source"]
    assert [path.name for path in into.rglob("*")] == [theirs, "all I have"]


def test_two_sources_of_one_name_do_not_share_a_folder(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for parent in ("x", "y"):
        shutil.copytree(base, Path(parent) / "mine")
    export("x/mine", to=["safetensors"])
    with pytest.raises(ArtifactError) as caught:
        export("y/mine", to=["safetensors"])
    assert codes(caught) == ["artifact/other-source"]
    assert str(tmp_path / "x" / "mine") in caught.value.faults[0].what
    export("y/mine", to=["safetensors"], into=Path("runs/other"))
    assert sorted(path.name for path in Path("runs").iterdir()) == ["mine", "other"]


def test_the_folder_of_the_exports_may_be_named_in_place_of_the_model(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(base, Path("mine"))
    export("mine", to=["gguf"])
    assert check("runs/mine").findings == check("mine").findings != ()
    made = export("runs/mine", to=["safetensors"])
    assert made["safetensors"].folder == Path("runs/mine/exports/safetensors")
    shutil.rmtree("mine")
    with pytest.raises(ArtifactError) as caught:
        check("runs/mine")
    assert codes(caught) == ["artifact/source-gone"]


def test_the_cure_is_what_was_typed_with_the_export(base: Path, tmp_path: Path) -> None:
    into = tmp_path / "a b"
    with pytest.raises(ArtifactError) as caught, chat(base, runtime="onnxruntime", into=into):
        pass
    assert caught.value.faults[0].fix == f"tunesmith export {base} --into '{into}' --to web"


def test_what_an_export_needs_is_kept_where_it_is_there(base: Path, tmp_path: Path) -> None:
    first = export(base, to=[Gguf(types=("f32",))], into=tmp_path)["gguf"]
    made = export(base, to=["ollama"], into=tmp_path)
    assert list(made["gguf"].variants) == list(first.variants) == ["f32"]
    assert list(made["ollama"].variants) == ["f32"]
    assert list(export(base, to=["gguf"], into=tmp_path)["gguf"].variants) == ["f16", "q8_0"]


def test_no_form_named_is_said(base: Path, tmp_path: Path) -> None:
    with pytest.raises(PlanError) as caught:
        export(base, into=tmp_path)
    assert [fault.code for fault in caught.value.faults] == ["export/nothing-asked"]


def test_programs_are_told_the_folder_and_what_was_done(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for state in ("done", "kept"):
        assert main(["export", str(base), "--to", "safetensors", "--json"]) == 0
        tree = json.loads(capsys.readouterr().out)
        assert tree["run"] == str(Path("runs") / base.name)
        assert [(one["stage"], one["state"]) for one in tree["stages"]] == [("export safetensors", state)]
        assert tree["checks"] is None


def test_a_disk_that_is_too_small_is_said_before_anything_is_written(base: Path) -> None:
    facts = BaseFacts.read(base)
    exporters = wanted(["ollama"])
    assert [one.kind for one in exporters] == ["gguf", "ollama"]  # what an export needs comes first
    roomy = Machine(2, 1 << 34, 1 << 40)
    assert refusals(exporters, facts, roomy) == []
    full = dataclasses.replace(roomy, free_disk_bytes=1000)
    assert [fault.code for fault in refusals(exporters, facts, full)] == ["export/disk-full"]
