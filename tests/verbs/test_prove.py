"""Whether tuning was worth it, on tiny models that know their answers by heart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import needs
from browsing import chromium
from chat_server import Reply, server
from tiny.learnt import ANSWERS, save_learnt
from tiny.models import save
from tunesmith import files
from tunesmith.artifact import MARK, Manifest, Model, Run, seal
from tunesmith.cli import main
from tunesmith.errors import ArtifactError, DataError, RecipeError, RuntimeFault
from tunesmith.exports.gguf import Gguf
from tunesmith.exports.ollama import Ollama
from tunesmith.exports.web import Web
from tunesmith.runtimes.torch import TorchOpened
from tunesmith.verbs._ready import data_hash
from tunesmith.verbs.export import export
from tunesmith.verbs.prove import prove

OTHERS = {
    f"a {size} {animal}": f'{{"size": "{size}"}}' for size in ("small", "big") for animal in ("cat", "dog", "hen")
}
SHUFFLED = dict(zip(ANSWERS, [*list(ANSWERS.values())[1:], "Paris."], strict=True))
KEYS = {
    "verdict", "sentence", "lines", "warnings", "metric", "metrics", "rows", "against", "difference", "arms", "skipped",
    "examples", "won", "lost", "forgotten", "tuning_seconds", "payback_requests", "max_tokens", "html",
}  # fmt: skip
ARM_KEYS = {
    "name", "runtime", "variant", "sent", "quality", "together", "prompt_tokens", "answer_tokens", "milliseconds",
    "first_token_milliseconds", "tokens_per_second", "rows_timed", "bytes", "peak_memory_bytes", "harm",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunesmith.endpoint.FIRST_WAIT_S", 0.0)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "random": save(folder / "random"),
        "learnt": save_learnt(folder / "learnt"),
        "shuffled": save_learnt(folder / "shuffled", n_steps=150, answers=SHUFFLED),
    }


def write(path: Path, pairs: Sequence[tuple[str, str]], system: str = "") -> Path:
    before = [{"role": "system", "content": system}] if system else []
    rows = [
        {"messages": [*before, {"role": "user", "content": asked}, {"role": "assistant", "content": said}]}
        for asked, said in pairs
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def a_run(
    folder: Path,
    base: Path,
    tuned: Path,
    train: Sequence[tuple[str, str]] = tuple(OTHERS.items()),
    test: Sequence[tuple[str, str]] | None = tuple(ANSWERS.items()) * 3,
    system: str = "",
    system_prompt: str = "keep",
) -> Run:
    """A run as tuning leaves it, its model made elsewhere."""
    import shutil

    run = Run(folder / "run")
    folder.mkdir(exist_ok=True)
    data = f"train: {write(folder / 'train.jsonl', train, system)}, format: messages, system_prompt: {system_prompt}"
    if test is not None:
        data += f", test: {write(folder / 'test.jsonl', test, system)}"
    shutil.copytree(tuned, run.folder / "model")
    (run.folder / "recipe.yaml").write_text(f"base: {base}\ndata: {{{data}}}\n")
    (run.folder / "README.md").write_text("# A tuned model\n\nMine.\n")
    (run.folder / "metrics.jsonl").write_text('{"step": 1, "loss": 3.0}\n{"step": 2, "loss": 1.0}\n')
    files.write_json(run.folder / MARK, {})
    parents = {"base": Model.of(base).identity, "data": data_hash(run.recipe)}
    seal(run.folder, Manifest("run", parents, {}, {"seconds": 10.0}), ("recipe.yaml", "model"))
    return run


def test_tuning_that_knows_the_answers_is_shipped(models: Mapping[str, Path], tmp_path: Path) -> None:
    run = a_run(tmp_path, models["random"], models["learnt"])
    proof = prove(run)
    assert proof.ok
    assert proof.judged.verdict == "ship"
    base, _, tuned = proof.arms
    assert [one.name for one in proof.arms] == ["base", "base + prompt", "tuned"]
    assert base.quality[proof.metric.kind].value == 0
    assert tuned.quality[proof.metric.kind].value == 1
    assert (proof.judged.better.more, proof.judged.better.less, proof.judged.better.n) == (12, 0, 12)
    assert proof.judged.better.p == pytest.approx(2 / 2**12)
    assert [one.says for one in proof.lines][:2] == ["yes", "yes"], "a random model never stops"
    assert len(proof.won) == 12
    assert not proof.lost
    assert {row.tuned for row in proof.won} == set(ANSWERS.values())
    assert tuned.harm["not_stopped"].value == 0
    assert tuned.first_milliseconds is not None
    assert tuned.as_json()["rows_timed"] == 4, "each question came three times"
    assert tuned.milliseconds is not None
    seconds_a_request = tuned.milliseconds / 1000
    assert tuned.tokens_per_second == pytest.approx(tuned.answer_tokens / seconds_a_request)
    assert proof.forgotten is not None
    told = proof.forgotten["answers"]
    assert len(told) == len({one["asked"] for one in told}) == 8
    assert any(one["before"] != one["after"] for one in told)


def test_a_model_that_was_tuned_without_the_system_prompt_is_asked_without_it(
    models: Mapping[str, Path], tmp_path: Path
) -> None:
    """The learnt model knows its questions alone: with words before them it answers otherwise."""
    run = a_run(tmp_path, models["random"], models["learnt"], system="the lazy dog " * 9, system_prompt="drop")
    export(run, to=[Gguf(types=("f32",))])
    proof = prove(run, runtimes=["torch", "llama_cpp"])
    base, prompted, tuned, there = proof.arms
    assert [one.quality[proof.metric.kind].value for one in (tuned, there)] == [1, 1]
    assert [one.sent for one in (tuned, there)] == ["the row without its system prompt, as it was tuned"] * 2
    assert base.sent == "the row as it stands in the data, with its own system prompt"
    assert base.prompt_tokens > tuned.prompt_tokens
    assert tuned.prompt_tokens == there.prompt_tokens
    assert prompted.prompt_tokens >= base.prompt_tokens


def test_a_server_of_someone_else_is_a_yardstick(
    models: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = a_run(tmp_path, models["random"], models["learnt"], system="Be short.")
    monkeypatch.setenv("YARD_KEY", "sk-not-to-be-seen")

    def reply(n: int, body: dict[str, Any]) -> Reply:
        said = ANSWERS[body["messages"][-1]["content"]]
        counts = {"prompt_tokens": 30, "completion_tokens": 5}
        choice = {"message": {"content": said if n % 2 else "no"}, "finish_reason": "stop"}
        return 200, {}, json.dumps({"choices": [choice], "usage": counts})

    with server(reply) as (address, asked):
        proof = prove(run, runtimes=[], endpoint=address, endpoint_model="big", endpoint_key="YARD_KEY")
        n_asked = len(asked)
        again = prove(run, runtimes=[], endpoint=address, endpoint_model="big", endpoint_key="YARD_KEY")
        assert len(asked) == n_asked == 3 + len(ANSWERS), "three to warm up, and nothing twice"
    assert again.kept
    one = proof.arms[-1]
    assert (one.name, one.speaker.runtime) == ("big at 127.0.0.1", "endpoint")
    assert 0 < one.quality[proof.metric.kind].value < 1
    assert (one.prompt_tokens, one.answer_tokens, one.peak_memory_bytes) == (30, 5, None)
    assert [turn["role"] for turn in asked[0]["messages"]] == ["system", "user"]
    assert {one["key"] for one in asked} == {"Bearer sk-not-to-be-seen"}
    written = [path.read_text() for path in (run.folder / "proof").rglob("*") if path.is_file()]
    assert len(written) >= 4
    assert not any("sk-not-to-be-seen" in text for text in written)
    gone = prove(run, runtimes=[], endpoint=address, endpoint_model="other", endpoint_key="YARD_KEY")
    assert "does not answer" in gone.skipped["other at 127.0.0.1"]


@pytest.mark.parametrize(
    ("asked", "codes"),
    [
        ({"endpoint": "https://api.example.com/v1"}, ["prove/no-endpoint-model"]),
        ({"endpoint_model": "big"}, ["prove/no-endpoint"]),
        ({"endpoint": "http://api.example.com/v1", "endpoint_model": "big"}, ["endpoint/address"]),
        (
            {"endpoint": "http://127.0.0.1:9/v1", "endpoint_model": "big", "endpoint_key": "NO_SUCH_VARIABLE"},
            ["endpoint/no-key"],
        ),
    ],
)
def test_a_server_that_cannot_be_asked_is_refused_before_anything_is(
    asked: dict[str, str], codes: list[str], models: Mapping[str, Path], tmp_path: Path
) -> None:
    run = a_run(tmp_path, models["random"], models["learnt"])
    with pytest.raises(RuntimeFault) as raised:
        prove(run, **asked)  # type: ignore[arg-type]
    assert [fault.code for fault in raised.value.faults] == codes
    assert not (run.folder / "proof").exists()


def test_another_run_is_a_yardstick_unless_it_has_learnt_the_rows(models: Mapping[str, Path], tmp_path: Path) -> None:
    run = a_run(tmp_path / "one", models["random"], models["learnt"])
    other = a_run(tmp_path / "two", models["random"], models["shuffled"])
    proof = prove(run, runtimes=[], with_=other)
    assert proof.arms[-1].name == "run run"
    assert proof.arms[-1].quality[proof.metric.kind].value < 1
    assert proof.judged.verdict == "ship"
    spoilt = a_run(tmp_path / "three", models["random"], models["shuffled"], train=tuple(ANSWERS.items()), test=None)
    proof = prove(run, runtimes=[], with_=spoilt)
    assert proof.skipped["run run"] == "it has learnt 12 of the 12 rows"
    assert len(proof.arms) == 3
    short = a_run(tmp_path / "four", models["random"], save(tmp_path / "short", max_position_embeddings=64))
    assert proof.max_tokens < 64
    assert prove(run, runtimes=[], with_=short).skipped["run run"] == "12 of the 12 rows do not fit into its context"
    (tmp_path / "two/train.jsonl").unlink()
    assert "cannot be known" in prove(run, runtimes=[], with_=other).skipped["run run"]


def test_the_memory_of_each_runtime_is_told_and_kept(models: Mapping[str, Path], tmp_path: Path) -> None:
    run = a_run(tmp_path, models["random"], models["learnt"])
    export(run, to=[Gguf(types=("f32", "q8_0"))])
    proof = prove(run, runtimes=["llama_cpp"], variants=["f32"])
    assert [one.speaker.variant for one in proof.arms if one.speaker.variant] == ["f32"]
    told = {one.speaker.runtime: one.peak_memory_bytes for one in proof.arms}
    assert set(told) == {"torch", "llama_cpp"}
    for runtime, n_bytes in told.items():
        assert n_bytes is not None, runtime
        assert 2e7 < n_bytes < 2e10, runtime
    assert prove(run, runtimes=["llama_cpp"], variants=["f32"]).as_json()["arms"] == proof.as_json()["arms"]
    with pytest.raises(RecipeError, match="prove/no-variant") as raised:
        prove(run, variants=["q4", "f32", "q5"])
    assert [one.fix for one in raised.value.faults] == ["name some of f32, q8_0"] * 2


def test_tuning_on_shuffled_answers_is_not_shipped(
    models: Mapping[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = a_run(tmp_path, models["learnt"], models["shuffled"])
    assert main(["prove", str(run.folder)]) == 1
    said = capsys.readouterr().out
    assert said.startswith("Do not ship:")
    assert "instead" in said
    report = json.loads((run.folder / "proof" / "report.json").read_text())
    assert report["verdict"] == "do not ship"
    assert len(report["lost"]) == 12
    assert "Do not ship" in (run.folder / "README.md").read_text()


def test_on_few_rows_it_cannot_be_told(models: Mapping[str, Path], tmp_path: Path) -> None:
    proof = prove(a_run(tmp_path, models["random"], models["learnt"], test=list(ANSWERS.items())), rows=3)
    assert len(proof.drawn.questions) == 3
    assert proof.judged.verdict == "cannot tell"
    assert not proof.ok
    one = prove(proof.run, rows=1, metric="chrf")
    assert "no interval of one row" in one.lines[0].told
    assert "inf" not in "".join(line.told for line in one.lines)
    assert "inf" not in (proof.run.folder / "README.md").read_text().replace("in full", "")
    assert "Infinity" not in (proof.run.folder / "proof" / "report.json").read_text()


def test_a_held_out_row_that_is_a_training_row_is_left_out(
    models: Mapping[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leaked = list(ANSWERS.items())[:1]
    run = a_run(tmp_path, models["random"], models["learnt"], train=[*OTHERS.items(), *leaked])
    write(tmp_path / "train.jsonl", [*OTHERS.items(), *leaked], system="Be brief.")  # the system plays no part
    parents = {"base": "", "data": data_hash(run.recipe)}
    seal(run.folder, Manifest("run", parents, {}, {"seconds": 10.0}), ("recipe.yaml", "model"))
    proof = prove(run)
    assert "3 of 12 held-out rows are also training rows" in capsys.readouterr().err
    assert proof.drawn.as_json() == {"asked": 9, "held_out": 12, "also_in_training": 3, "not_asked": 0}
    assert leaked[0][0] not in {one.asked for one in proof.drawn.questions}


def test_a_second_proof_asks_nothing_and_says_the_same(
    models: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = a_run(tmp_path, models["random"], models["learnt"])
    asked: list[int] = []
    generate, likelihoods = TorchOpened._generate, TorchOpened.likelihoods

    def counted(self: TorchOpened, prompts: Any, *rest: Any) -> Any:
        asked.append(len(prompts))
        return generate(self, prompts, *rest)

    def weighed(self: TorchOpened, *rest: Any) -> Any:
        asked.append(1)
        return likelihoods(self, *rest)

    monkeypatch.setattr(TorchOpened, "_generate", counted)
    monkeypatch.setattr(TorchOpened, "likelihoods", weighed)
    first = prove(run).as_json()
    assert sum(asked) > 8
    asked.clear()
    again = prove(run)
    assert again.as_json() == first
    assert again.kept
    assert asked == []
    kept = sorted((run.folder / "proof" / "answers").iterdir())
    kept[0].write_text(kept[0].read_text()[:-20])  # as a kill leaves it
    assert prove(run).as_json()["verdict"] == "ship"
    assert asked, "the line that was cut short is asked again"


def test_the_base_is_given_the_most_similar_training_rows(models: Mapping[str, Path], tmp_path: Path) -> None:
    """Its answers by heart survive no examples, so none is best."""
    proof = prove(a_run(tmp_path, models["learnt"], models["shuffled"]), system="Be brief.")
    assert set(proof.examples.tried) <= {0, 2, 4, 8}
    assert proof.examples.n_tried == 1
    assert {one[0]["content"] for one in proof.examples.asks} == {"Be brief."}


def test_the_tuned_model_is_asked_in_other_runtimes_and_what_is_missing_is_named(
    models: Mapping[str, Path], tmp_path: Path
) -> None:
    run = a_run(tmp_path, models["random"], models["learnt"])
    export(run, to=[Gguf(types=("f32", "q8_0"))])
    proof = prove(run, runtimes=["llama_cpp", "transformers_js"])
    there = {one.name: one for one in proof.arms[3:]}
    assert set(there) == {"tuned gguf f32", "tuned gguf q8_0"}
    for one in there.values():
        assert one.speaker.runtime == "llama_cpp"
        assert one.quality[proof.metric.kind].value == 1
        assert one.milliseconds is not None
        assert one.first_milliseconds is not None
    assert set(proof.skipped) == {"transformers_js"}
    assert proof.skipped["transformers_js"].endswith("--to web")


def test_ollama_and_transformers_js_are_asked_once(
    models: Mapping[str, Path], tmp_path: Path, ollama_server: needs.OllamaServer
) -> None:
    needs.need_node()
    run = a_run(tmp_path, models["random"], models["learnt"])
    export(run, to=[Gguf(types=("q8_0",)), Ollama(name="proved", type="q8_0"), Web(dtypes=("q8",))])
    there = {"endpoint": f"http://{ollama_server.host}/v1", "endpoint_model": "proved"}
    proof = prove(run, runtimes=["ollama", "transformers_js"], **there)  # type: ignore[arg-type]
    assert not proof.skipped
    assert [one.speaker.runtime for one in proof.arms[3:]] == ["ollama", "transformers_js", "endpoint"]
    for one in proof.arms[3:]:
        assert one.quality[proof.metric.kind].value == 1
        assert one.milliseconds is not None
        assert one.prompt_tokens == proof.arms[2].prompt_tokens
        assert one.harm["not_stopped"].value == 0
        assert (one.peak_memory_bytes is None) == (one.speaker.runtime == "endpoint")
        assert one.peak_memory_bytes is None or 1e7 < one.peak_memory_bytes < 1e10
    assert prove(run, runtimes=["ollama", "transformers_js"], **there).kept  # type: ignore[arg-type]


def test_programs_get_the_keys_that_are_promised(
    models: Mapping[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = a_run(tmp_path, models["random"], models["learnt"])
    assert main(["prove", str(run.folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told) == KEYS
    assert told == json.loads((run.folder / "proof" / "report.json").read_text())
    assert all(set(one) == ARM_KEYS for one in told["arms"])
    assert set(told["arms"][0]["quality"][told["metric"]]) == {"value", "low", "high"}
    page = Path("docs/json.md") if Path("docs/json.md").is_file() else Path(__file__).parents[2] / "docs" / "json.md"
    section = page.read_text(encoding="utf-8").partition("## prove")[2].partition("\n## ")[0]
    assert [key for key in KEYS | ARM_KEYS if f"`{key}`" not in section] == []


def test_the_card_keeps_what_else_it_says_and_has_one_proof(models: Mapping[str, Path], tmp_path: Path) -> None:
    run = a_run(tmp_path, models["random"], models["learnt"])
    prove(run)
    prove(run)
    card = (run.folder / "README.md").read_text()
    assert card.startswith("# A tuned model\n\nMine.\n")
    assert card.count("## Was tuning worth it?") == 1
    assert "| tuned | 100.0%" in card
    assert run.manifest is not None


EVIL = "<script>alert(1)</script></style><img src=x onerror=alert(2)>\"' &amp; \u202e"


def test_nothing_of_the_data_or_the_answers_is_markup(models: Mapping[str, Path], tmp_path: Path) -> None:
    rows = [*ANSWERS.items(), (EVIL, EVIL)] * 3
    proof = prove(a_run(tmp_path, models["random"], models["learnt"], test=rows), metric="normalised_match")
    html = proof.html.read_text(encoding="utf-8")
    assert "<script" not in html
    assert "<img" not in html
    assert html.count("</style>") == 1
    assert "\u202e" not in html
    assert "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\"" in html
    assert "Rows won" in html


def test_a_browser_shows_the_page_and_asks_for_nothing(models: Mapping[str, Path], tmp_path: Path) -> None:
    page = prove(a_run(tmp_path, models["random"], models["learnt"])).html
    with chromium() as browser:
        for scheme in ("light", "dark"):
            tab = browser.new_page(viewport={"width": 700, "height": 800}, color_scheme=scheme)
            asked: list[str] = []
            faults: list[str] = []
            tab.on("request", lambda request, asked=asked: asked.append(request.url))
            tab.on("console", lambda said, faults=faults: faults.append(said.text))
            tab.goto(page.as_uri())
            assert tab.locator("h1").inner_text() == "Was tuning worth it? run"
            assert tab.locator("svg").count() == 5, "quality, tokens, milliseconds, lengths, loss"
            assert tab.locator("svg circle").count() == 6, "an arm each, in quality and in lengths"
            assert tab.evaluate("document.documentElement.scrollWidth") <= 700
            assert asked == [page.as_uri()]
            assert faults == []
            tab.emulate_media(media="print", color_scheme=scheme)
            assert tab.evaluate("getComputedStyle(document.body).color") == "rgb(35, 38, 43)", "dark ink on paper"
            assert tab.evaluate("getComputedStyle(document.querySelector('.sides .text')).maxHeight") == "none"
            assert tab.evaluate("document.documentElement.scrollWidth") <= 700, "nothing is cut at the edge"


def test_what_cannot_be_proved_is_said_with_its_reason(models: Mapping[str, Path], tmp_path: Path) -> None:
    def code(run: Run | Path) -> str:
        with pytest.raises((ArtifactError, DataError)) as caught:
            prove(run)
        return caught.value.faults[0].code

    def made(name: str, **data: Any) -> Run:
        (tmp_path / name).mkdir()
        return a_run(tmp_path / name, models["random"], models["learnt"], **data)

    assert code(models["learnt"]) == "prove/no-run"
    assert code(made("none", test=None)) == "prove/no-held-out"
    assert code(made("same", test=list(OTHERS.items())[:2])) == "prove/only-training-rows"
    assert code(made("long", test=[("very " * 600, "long")])) == "prove/too-long"
    changed = made("changed")
    write(tmp_path / "changed" / "train.jsonl", [("other", "rows")])
    assert code(changed) == "prove/other-data"
    tools = made("tools")
    row = json.loads((tmp_path / "tools" / "test.jsonl").read_text().splitlines()[0])
    row["tools"] = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    (tmp_path / "tools" / "test.jsonl").write_text(json.dumps(row) + "\n")
    parents = {"base": "", "data": data_hash(tools.recipe)}
    seal(tools.folder, Manifest("run", parents, {}, {}), ("recipe.yaml", "model"))
    assert code(tools) == "prove/nothing-to-ask"
    with pytest.raises(RecipeError, match="no member"):
        prove(changed, runtimes=["lama_cpp"])
    with pytest.raises(RecipeError, match=r"tunesmith export .* --to gguf"):
        prove(changed, variants=["q4"])
    with pytest.raises(RecipeError, match="prove/no-rows"):
        prove(changed, rows=0)
    with pytest.raises(DataError, match="prove/metric-does-not-apply"):
        prove(made("words", test=[("Say hello.", "hello, please!")] * 3), metric="number")


def test_raw_text_has_no_answers(models: Mapping[str, Path], tmp_path: Path) -> None:
    run = a_run(tmp_path, models["random"], models["learnt"])
    (tmp_path / "test.jsonl").write_text('{"text": "a red fox"}\n')
    (tmp_path / "train.jsonl").write_text('{"text": "a blue fox"}\n')
    recipe = (run.folder / "recipe.yaml").read_text().replace("format: messages", "format: text")
    (run.folder / "recipe.yaml").write_text(recipe)
    parents = {"base": "", "data": data_hash(run.recipe)}
    seal(run.folder, Manifest("run", parents, {}, {}), ("recipe.yaml", "model"))
    with pytest.raises(DataError) as caught:
        prove(run)
    assert caught.value.faults[0].code == "prove/raw-text"


def test_a_recipe_ends_with_a_proof_where_it_asks_for_one(
    models: Mapping[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tiny.rows import write_chats

    data = {"train": str(write_chats(tmp_path / "rows.jsonl")), "test": 0.25}
    options = {"epochs": 2, "batch_size": 4, "learning_rate": 1e-2}
    recipe = tmp_path / "proved.yaml"
    recipe.write_text(json.dumps({"base": str(models["random"]), "data": data, "run": options, "prove": True}))
    for state in ("done", "kept"):
        assert main(["run", str(recipe), "--into", str(tmp_path / "run"), "--json"]) == 1, "two rows tell nothing"
        told = json.loads(capsys.readouterr().out)
        assert told["stages"][-1]["stage"] == "prove"
        assert told["stages"][-1]["state"] == state
        assert told["proof"]["verdict"] == "cannot tell"
        assert told["proof"]["rows"]["asked"] == 2
