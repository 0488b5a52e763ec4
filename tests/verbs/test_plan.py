from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tiny.models import save
from tiny.rows import BY_HEART, write_chats
from tunesmith import files, say
from tunesmith.errors import PlanError
from tunesmith.machine import ROUTES, Machine
from tunesmith.recipe import Recipe
from tunesmith.verbs.plan import Plan
from tunesmith.verbs.plan import plan as plan_of
from tunesmith.weights.facts import BaseFacts


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save(tmp_path_factory.mktemp("base"))
    (folder / "model.safetensors").unlink()  # a plan needs no weights
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_chats(tmp_path / "rows.jsonl")


def plan(asked: Recipe, *, into: Path | None = None) -> Plan:
    """Without a probe: test_probe.py is about that."""
    return plan_of(asked, into=into, probe=False)


def recipe(base: Path, data: Path, *, test: str | float | None = None, **parts: Any) -> Recipe:
    tree = {"base": str(base), "data": {"train": str(data), "test": test}, **parts}
    return Recipe.model_validate(tree)


def codes(planned: Plan) -> list[str]:
    return [fault.code for fault in planned.refusals]


def test_steps_and_tokens_are_those_that_a_hand_counts(base: Path, data: Path, tmp_path: Path) -> None:
    from tunesmith.text.template import Text

    planned = plan(recipe(base, data, run={"epochs": 2, "batch_size": 3}), into=tmp_path / "run")
    text = Text.read(base)
    chats = [
        [{"role": "user", "content": ask}, {"role": "assistant", "content": answer}] for ask, answer in BY_HEART.items()
    ]
    assert planned.steps == 6  # eight rows in threes, twice
    # What a template writes after the last end token (here a newline) is neither read nor learnt.
    assert planned.tokens == 2 * sum(len(text.encode(text.render(chat).rstrip())) for chat in chats)
    assert planned.refusals == ()
    assert planned.seconds > 0
    assert planned.memory_bytes > 10**9
    assert planned.disk_bytes > 10**5


def test_where_products_cost_nothing_the_time_is_what_goes_through_memory(
    base: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunesmith import machine as machines

    speed = machines.Speed(dict.fromkeys(ROUTES, 1e18), dict.fromkeys(ROUTES, 1e-7), 1e6)
    for module in ("tunesmith.machine", "tunesmith.learn.settings"):
        monkeypatch.setattr(f"{module}.measure", lambda machine: speed)
    planned = plan(recipe(base, data), into=tmp_path / "run")
    # Two layers of width 64 (the heads as wide) and 128 inside; four bytes; a quarter for room; one and a half times.
    a_token = 4 * (2 * (12 * 64 + 10 * 64 + 6 * 128) + 4 * 64) * 1.25
    assert planned.seconds == pytest.approx(planned.tokens * 1.5 * a_token / 1e6)


def test_nothing_is_made_or_loaded(base: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunesmith.weights.load.load", None)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    planned = plan(recipe(base, data))
    assert planned.folder == Path("runs") / f"rows-{base.name}-lora"
    assert sorted(tmp_path.rglob("*")) == before


def test_a_test_file_in_the_training_folder_is_not_learnt_from(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    write_chats(folder / "train.jsonl")
    write_chats(folder / "test.jsonl", {"six": "seven"})
    planned = plan(recipe(base, folder, test=str(folder / "test.jsonl")), into=tmp_path / "run")
    assert (len(planned.ready.rows), len(planned.ready.held_out)) == (len(BY_HEART), 1)


def test_test_rows_that_are_learnt_from_are_told_and_refused_where_all_are(
    base: Path, data: Path, tmp_path: Path
) -> None:
    class Ear(say.Silent):
        def warn(self, text: str) -> None:
            heard.append(text)

    heard: list[str] = []
    before = say.hear(Ear())
    try:
        test = str(write_chats(tmp_path / "test.jsonl", {"six": "seven", "red": "fox"}))
        planned = plan(recipe(base, data, test=test), into=tmp_path / "run")
    finally:
        say.hear(before)
    assert planned.refusals == ()
    assert [f"1 of 2 test rows are also training rows, the first at {test}, line 2" in one for one in heard] == [True]
    same = plan(recipe(base, data, test=str(data)), into=tmp_path / "run")
    assert [(fault.code, fault.line) for fault in same.refusals] == [("plan/test-is-train", 1)]


def test_how_many_rows_are_held_out_is_said(base: Path, data: Path, tmp_path: Path) -> None:
    planned = plan(recipe(base, data, test=0.25), into=tmp_path / "run")
    assert [value.value for value in planned.values if value.name == "held_out"] == ["2 rows"]


def test_each_value_that_was_chosen_has_a_reason(base: Path, data: Path, tmp_path: Path) -> None:
    planned = plan(recipe(base, data), into=tmp_path / "run")
    names = {value.name for value in planned.values}
    assert names >= {"max_length", "device", "dtype", "step", "steps", "tokens_at_once", "learning_rate", "save_dtype"}
    assert all(value.why for value in planned.values)


def test_what_frozen_layers_give_is_kept_where_the_disk_has_room(
    base: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def below(epochs: float) -> tuple[str, Plan]:
        planned = plan(recipe(base, data, method={"kind": "freeze", "layers": 1}, run={"epochs": epochs}))
        return next(one.value for one in planned.values if one.name == "below"), planned

    monkeypatch.chdir(tmp_path)
    assert below(1)[0] == "computed"
    kept, planned = below(3)
    assert kept == "kept on disk"
    assert planned.ready.settings is not None
    assert planned.ready.settings.keeps_below
    assert planned.disk_bytes - below(1)[1].disk_bytes == planned.tokens / 3 * 64 * 4
    monkeypatch.setattr(files, "free_bytes", lambda folder: planned.disk_bytes - 1)
    assert below(3)[0] == "computed"
    assert below(3)[1].refusals == ()


def test_the_json_has_the_promised_keys(base: Path, data: Path, tmp_path: Path) -> None:
    tree = json.loads(json.dumps(plan(recipe(base, data), into=tmp_path / "run").as_json()))
    promised = {"steps", "tokens", "seconds", "memory_bytes", "disk_bytes", "values", "refusals", "delivers"} | {
        "moves",
        "parameters",
    }
    assert set(tree) >= promised
    assert set(tree["values"][0]) == {"name", "value", "why"}
    assert tree["delivers"]["gguf"] == {"kind": "exact", "how": "merged in float32 and cast once", "instead": ""}
    assert tree["parameters"] == BaseFacts.read(base).n_parameters
    assert sum(tree["moves"].values()) == recipe(base, data).method.trainable(BaseFacts.read(base))


def test_faults_of_data_method_and_recipe_come_together(base: Path, data: Path, tmp_path: Path) -> None:
    with data.open("a") as file:
        file.write("not json\n")
    planned = plan(
        recipe(base, data, method={"kind": "lora", "targets": ["q_porj"]}, run={"max_length": 9999}),
        into=tmp_path / "run",
    )
    assert set(codes(planned)) == {"data/not-json", "method/unknown-target", "plan/too-long"}
    with pytest.raises(PlanError) as error:
        planned.or_raise()
    assert len(error.value.faults) == 3


def test_a_base_that_is_not_there_and_bad_data_come_together(data: Path, tmp_path: Path) -> None:
    data.write_text("[\n")
    found = codes(plan(recipe(tmp_path / "nowhere", data), into=tmp_path / "run"))
    assert any(code.startswith("source/") for code in found)
    assert any(code.startswith("data/") for code in found)


def test_many_faults_of_the_data_are_counted_not_all_shown(base: Path, data: Path, tmp_path: Path) -> None:
    data.write_text("bad\n" * 80)
    found = codes(plan(recipe(base, data), into=tmp_path / "run"))
    assert len(found) == 51
    assert found[-1] == "plan/more-data-faults"


def test_rows_without_a_learnt_token_are_refused(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tunesmith.objectives import _prepare

    nothing = _prepare.Prepared([], [])
    monkeypatch.setattr(_prepare, "prepare", lambda *args: nothing)
    data = write_chats(tmp_path / "rows.jsonl")
    assert codes(plan(recipe(base, data), into=tmp_path / "run")) == ["plan/no-loss"]


def test_a_base_without_tokenizer_files_is_refused(data: Path, tmp_path: Path) -> None:
    folder = save(tmp_path / "base")
    (folder / "tokenizer.json").write_text("{")
    assert "plan/no-tokenizer" in codes(plan(recipe(folder, data), into=tmp_path / "run"))


def small(**changes: int) -> Machine:
    return Machine(**{"n_cores": 2, "memory_bytes": 10**11, "free_disk_bytes": 10**12, **changes})


@pytest.mark.parametrize(
    ("machine", "code"),
    [
        (small(memory_bytes=10**9), "plan/memory-too-small"),
        (small(free_disk_bytes=10**5), "plan/disk-too-small"),
    ],
)
def test_a_machine_that_is_too_small_is_said_so(
    machine: Machine, code: str, base: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Machine, "look", classmethod(lambda cls, folder: machine))
    assert codes(plan(recipe(base, data), into=tmp_path / "run")) == [code]


def test_what_an_export_needs_is_planned_with_it(base: Path, data: Path, tmp_path: Path) -> None:
    one = plan(recipe(base, data, export=["ollama"]), into=tmp_path / "run")
    both = plan(recipe(base, data, export=["gguf", "ollama"]), into=tmp_path / "run")
    assert one.disk_bytes == both.disk_bytes
    assert [fault.what for fault in one.refusals] == [fault.what for fault in both.refusals]


def test_what_the_method_cannot_deliver_is_refused_before_training(
    base: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunesmith.methods._contract import Delivery
    from tunesmith.methods.lora import Lora

    refused = Delivery("refused", "it cannot be", instead="prompt")
    monkeypatch.setattr(Lora, "delivers", lambda self, base: {"safetensors": refused})
    planned = plan(recipe(base, data, export=["safetensors"]), into=tmp_path / "run")
    (fault,) = [one for one in planned.refusals if one.code == "plan/no-way-there"]
    assert fault.what == "lora cannot become safetensors: it cannot be"
    assert fault.fix == "set method: prompt, or leave safetensors out of export"


def test_a_soft_prompt_stands_before_every_row_and_counts_as_its_tokens(base: Path, data: Path, tmp_path: Path) -> None:
    plain = plan(recipe(base, data), into=tmp_path / "run").ready
    led = plan(recipe(base, data, method={"kind": "prompt", "length": 9}), into=tmp_path / "run").ready
    ids = led.method.lead(BaseFacts.read(base))
    assert [row.ids for row in led.rows] == [(*ids, *row.ids) for row in plain.rows]
    assert [learnt for _, learnt in led.lengths] == [learnt for _, learnt in plain.lengths]
    assert [length for length, _ in led.lengths] == [length + 9 for length, _ in plain.lengths]


def test_a_soft_prompt_that_leaves_no_room_for_a_row_is_refused(base: Path, data: Path, tmp_path: Path) -> None:
    planned = plan(recipe(base, data, method={"kind": "prompt", "length": 512}), into=tmp_path / "run")
    assert codes(planned) == ["plan/no-room"]


def test_a_fraction_is_held_out(base: Path, data: Path, tmp_path: Path) -> None:
    tree = {"data": {"train": str(data), "test": 0.25}, "run": {"epochs": 1, "batch_size": 1}}
    planned = plan(Recipe.model_validate({"base": str(base), **tree}), into=tmp_path / "run")
    assert (len(planned.ready.rows), len(planned.ready.held_out)) == (6, 2)
    assert planned.steps == 6


def test_raw_text_comes_in_pieces(tmp_path: Path) -> None:
    folder = save(tmp_path / "base", max_position_embeddings=4096)
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog\n" * 400)
    planned = plan(recipe(folder, text, objective="uft"), into=tmp_path / "run")
    assert planned.refusals == ()
    assert planned.ready.settings is not None
    assert planned.ready.settings.max_length == 1024
    assert len(planned.ready.rows) > 1


def gpu(memory_bytes: int, gpu_memory_bytes: int) -> Machine:
    return Machine(8, memory_bytes, 10**12, "a GPU", gpu_memory_bytes)


@pytest.mark.parametrize(
    ("machine", "refused"),
    [
        (gpu(64 * 10**9, 24 * 10**9), ""),
        (gpu(64 * 10**9, 8 * 10**9), "learning needs up to"),
        (gpu(16 * 10**9, 24 * 10**9), "beside its GPU's"),
    ],
)
def test_a_7b_base_fits_a_gpu_of_24_gb_and_comes_to_rest_in_the_memory_beside_it(
    machine: Machine, refused: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """14.5 GB of weights in bfloat16 on the GPU; 29 GB of them in float32 in the machine's own memory."""
    from tunesmith import machine as machines

    sound = machines.Speed(
        {"float32": 20e3, "float32-onednn": 20e3, "bfloat16": 60e3}, dict.fromkeys(ROUTES, 1e-7), 1e12
    )
    monkeypatch.setattr(Machine, "look", classmethod(lambda cls, folder: machine))
    for module in ("tunesmith.machine", "tunesmith.learn.settings"):
        monkeypatch.setattr(f"{module}.measure", lambda machine: sound)
    planned = classic(data, tmp_path)
    assert [fault.code for fault in planned.refusals] == (["plan/memory-too-small"] if refused else [])
    assert all(refused in fault.what for fault in planned.refusals)
    assert 14 * 10**9 < planned.memory_bytes < 24 * 10**9
    assert 29 * 10**9 < planned.host_memory_bytes < 64 * 10**9


def classic(data: Path, tmp_path: Path) -> Plan:
    """Mistral-7B, LoRA rank 16 on q_proj and v_proj: 6.8 million weights of 7.2 billion move."""
    from transformers import MistralConfig

    folder = save(tmp_path / "base", "mistral")
    (folder / "model.safetensors").unlink()
    MistralConfig().save_pretrained(folder)
    method = {"kind": "lora", "rank": 16, "alpha": 32, "dropout": 0.05, "targets": ["q_proj", "v_proj"]}
    options = {"batch_size": 2, "gradient_accumulation_steps": 2, "learning_rate": 2e-4, "epochs": 3}
    return plan(recipe(folder, data, method=method, run=options), into=tmp_path / "run")


def test_the_classic_recipe_on_a_7b_base_is_planned_without_its_weights(data: Path, tmp_path: Path) -> None:
    planned = classic(data, tmp_path)
    assert set(codes(planned)) <= {"plan/memory-too-small", "plan/disk-too-small"}
    assert planned.steps == 6
    assert planned.ready.settings is not None
    assert planned.ready.settings.learning_rate == 2e-4
    assert planned.memory_bytes > 14 * 10**9
