from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from tunesmith.errors import Fault, RecipeError
from tunesmith.recipe import Data, Recipe

LEAST = "base: a\ndata: {train: x}\n"


def faults(text: str, *changes: str) -> list[Fault]:
    with pytest.raises(RecipeError) as raised:
        Recipe.from_text(text, "r.yaml", changes)
    assert raised.value.exit_code == 2
    return list(raised.value.faults)


def one(text: str, *changes: str) -> Fault:
    found = faults(text, *changes)
    assert len(found) == 1, found
    return found[0]


def test_only_base_and_data_are_needed() -> None:
    recipe = Recipe.from_text(LEAST)
    assert (recipe.method.kind, recipe.objective.kind, recipe.export) == ("lora", "sft", ())
    assert [(one.code, one.key) for one in faults("run: {seed: 2}")] == [
        ("recipe/missing-key", "base"),
        ("recipe/missing-key", "data"),
    ]


def test_numbers_and_words_follow_yaml_1_2() -> None:
    recipe = Recipe.from_text("base: no\ndata: {train: 12:30}\nrun: {learning_rate: 1e-5}\n")
    assert (recipe.base, recipe.data.train, recipe.run.learning_rate) == ("no", "12:30", 1e-5)


def test_every_fault_is_named_at_once_with_its_line_in_the_order_of_the_file() -> None:
    found = faults(
        "base: 5\n"
        "data:\n  train: x\n  tets: 0.1\n"
        "method:\n  kind: lora\n  rank: -1\n  rnak: 3\n"
        "run:\n  epochs: 0\n"
        "export:\n  - gguff\n"
    )
    assert [(one.code, one.line, one.key) for one in found] == [
        ("recipe/bad-value", 1, "base"),
        ("recipe/unknown-key", 4, "data.tets"),
        ("recipe/bad-value", 7, "method.rank"),
        ("recipe/unknown-key", 8, "method.rnak"),
        ("recipe/bad-value", 10, "run.epochs"),
        ("recipe/unknown-member", 12, "export[0]"),
    ]
    assert {one.file for one in found} == {"r.yaml"}
    assert "did you mean 'test'?" in found[1].fix
    assert found[2].what == "should be greater than 0 or 'auto', and this is -1"
    assert "did you mean 'rank'?" in found[3].fix
    assert "did you mean 'gguf'?" in found[5].fix


def test_an_unknown_key_at_the_top_names_the_known_ones() -> None:
    fault = one(LEAST + "modle: x\n")
    assert (fault.code, fault.line) == ("recipe/unknown-key", 3)
    assert "known here: base, data, export, method, objective, prove, run" in fault.fix


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("run: {tokens_per_step: fast}", "should be a whole number or 'auto', and this is 'fast'"),
        ("run: {seed: true}", "true and false mean nothing here, and this is true"),
        ("run: {batch_size: true}", "true and false mean nothing here, and this is true"),
        ("run: {epochs: yes}", "should be a number or 'auto', and this is 'yes'"),
        ("run: {batch_size: 2.5}", "should be a whole number or 'auto', and this is 2.5"),
        ("run: {learning_rate: .inf}", "should be a finite number or 'auto', and this is inf"),
        ("run: {learning_rate: .nan}", "should be a finite number or 'auto', and this is nan"),
        ("run: {warmup_ratio: 2}", "should be less than or equal to 1, and this is 2"),
        ("run: {dtype: float16}", "should be 'auto' or 'float32' or 'bfloat16', and this is 'float16'"),
        ("run: 7", "should hold keys of its own, and this is 7"),
        ("export: gguf", "should be a list, and this is 'gguf'"),
    ],
)
def test_a_wrong_value_is_said_with_what_would_be_right(text: str, what: str) -> None:
    fault = one(LEAST + text)
    assert (fault.code, fault.line) == ("recipe/bad-value", 3)
    assert fault.what.startswith(what)


@pytest.mark.parametrize(
    ("text", "key", "what"),
    [
        ("base: a\ndata: {train: [x, 3]}", "data.train[1]", "should be text, and this is 3"),
        ("base: a\ndata: {train: []}", "data.train", "should not be empty, and this is []"),
        ("base: a\ndata: {train: ''}", "data.train", "should not be empty, and this is ''"),
        ("base: ''\ndata: {train: x}", "base", "should not be empty, and this is ''"),
        ("base: a\ndata: x", "data", "should hold keys of its own, and this is 'x'"),
        ("base: 2026-11-22\ndata: {train: x}", "base", "should be text, and this is 2026-11-22, a date to YAML"),
    ],
)
def test_a_value_of_the_wrong_shape_is_named(text: str, key: str, what: str) -> None:
    fault = one(text)
    assert (fault.code, fault.key) == ("recipe/bad-value", key)
    assert fault.what.startswith(what)


@pytest.mark.parametrize("text", ["method: {rank: 8}", "method: 3", "objective: [sft]", "method: {kind: 3}"])
def test_a_member_without_a_kind_is_asked_for_one(text: str) -> None:
    fault = one(LEAST + text)
    assert (fault.code, fault.line) == ("recipe/unknown-member", 3)
    assert "kind:" in fault.fix


def test_an_unknown_format_is_refused_with_the_nearest() -> None:
    fault = one("base: a\ndata: {train: x, format: mesages}")
    assert (fault.code, fault.key) == ("recipe/unknown-member", "data.format")
    assert "did you mean 'messages'?" in fault.fix


def test_two_ways_to_say_the_size_of_a_step_are_a_conflict() -> None:
    fault = one(LEAST + "run:\n  tokens_per_step: 500\n  gradient_accumulation_steps: 2\n")
    assert (fault.code, fault.key) == ("recipe/conflict", "run")
    Recipe.from_text(LEAST + "run: {batch_size: 2, gradient_accumulation_steps: 2}\n")
    Recipe.from_text(LEAST + "run: {batch_size: 2, tokens_per_step: 500}\n")


def test_an_export_named_twice_is_a_conflict() -> None:
    fault = one(LEAST + "export: [safetensors, web, safetensors]")
    assert (fault.code, "safetensors twice" in fault.what) == ("recipe/conflict", True)


def test_members_take_their_name_alone_or_their_options() -> None:
    recipe = Recipe.from_text(LEAST + "method:\n  kind: lora\n  rank: 8\nexport: [safetensors]\n")
    assert recipe.as_tree()["method"]["rank"] == 8
    assert [one.kind for one in recipe.export] == ["safetensors"]


def test_its_own_yaml_gives_the_same_recipe() -> None:
    recipe = Recipe.from_text(
        LEAST
        + "method: {kind: lora, rank: 3, targets: [q_proj]}\nrun: {learning_rate: 1e-5}\nexport: [safetensors, gguf]\n"
    )
    again = Recipe.from_text(recipe.as_yaml())
    assert again == recipe
    assert again.as_yaml() == recipe.as_yaml()


def test_the_learning_hash_leaves_out_exports_names_whose_content_is_hashed_and_how_a_step_is_cut() -> None:
    plain = Recipe.from_text(LEAST)
    assert plain.learning_hash() == Recipe.from_text(LEAST, changes=["export=[safetensors]"]).learning_hash()
    assert plain.learning_hash() == Recipe.from_text(LEAST, changes=["data.test=0.1", "prove=true"]).learning_hash()
    for change in ("run.seed=2", "method.rank=7", "run.batch_size=4", "data.format=text", "objective=uft"):
        assert plain.learning_hash() != Recipe.from_text(LEAST, changes=[change]).learning_hash(), change


def test_a_recipe_is_never_changed_after_it_is_read() -> None:
    recipe = Recipe.from_text(LEAST)
    with pytest.raises(ValidationError, match="frozen"):
        recipe.base = "b"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        recipe.run.seed = 4  # type: ignore[misc]


def test_python_takes_members_as_objects_and_refuses_those_of_another_room() -> None:
    from tunesmith.methods.lora import Lora
    from tunesmith.objectives.sft import Sft

    recipe = Recipe(base="a", data=Data(train="x"), method=Lora(rank=8))
    assert recipe.as_tree()["method"]["rank"] == 8
    with pytest.raises(RecipeError) as raised:
        Recipe(base="a", data=Data(train="x"), method=Sft())
    (fault,) = raised.value.faults
    assert (fault.code, fault.what, fault.key) == ("recipe/unknown-member", "Sft is no method", "method")


def test_what_is_written_wrongly_in_python_is_said_as_in_a_file() -> None:
    from tunesmith.methods.lora import Lora

    with pytest.raises(RecipeError) as raised:
        Lora(rnak=8)  # type: ignore[call-arg]
    (fault,) = raised.value.faults
    assert (fault.code, fault.what) == ("recipe/unknown-key", "Lora has no key 'rnak'")
    assert "did you mean 'rank'?" in fault.fix
    with pytest.raises(RecipeError) as raised:
        Recipe(base="a", data=Data(train="x"), method={"kind": "lora", "rank": "many"}, run={"epochs": -1})  # type: ignore[arg-type]
    assert [(one.code, one.key) for one in raised.value.faults] == [
        ("recipe/bad-value", "method.rank"),
        ("recipe/bad-value", "run.epochs"),
    ]


def test_a_missing_file_and_an_unreadable_one_are_told_apart(tmp_path: Path) -> None:
    for path, code in ((tmp_path / "none.yaml", "recipe/missing"), (tmp_path, "recipe/unreadable")):
        with pytest.raises(RecipeError) as raised:
            Recipe.read(path)
        assert raised.value.faults[0].code == code
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("base: é".encode("latin-1"))
    with pytest.raises(RecipeError) as raised:
        Recipe.read(latin)
    assert raised.value.faults[0].code == "recipe/unreadable"


def test_a_recipe_is_named_after_its_file_and_is_the_same_under_any_name(tmp_path: Path) -> None:
    for name in ("voice.yaml", "other.yml"):
        (tmp_path / name).write_text(LEAST)
    voice, other = Recipe.read(tmp_path / "voice.yaml"), Recipe.read(tmp_path / "other.yml")
    assert (voice.name, other.name, Recipe.from_text(LEAST).name) == ("voice", "other", "")
    assert voice == other
    assert hash(voice) == hash(other)
    assert voice != Recipe.read(tmp_path / "voice.yaml", ["run.seed=2"])


def test_a_seed_is_one_that_every_generator_takes() -> None:
    for seed in ("99999999999999", "-1"):
        with pytest.raises(RecipeError, match="recipe/bad-value"):
            Recipe.from_text(LEAST, changes=[f"run.seed={seed}"])


@pytest.mark.parametrize("changes", [["prove=true"], ["prove=true", "data.test=0.1", "objective=uft"]])
def test_what_has_no_held_out_answers_cannot_be_proved(changes: list[str]) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.from_text(LEAST, changes=changes)
    assert [fault.code for fault in caught.value.faults] == ["recipe/conflict"]
