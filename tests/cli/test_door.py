from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tunesmith import say
from tunesmith.cli import main
from tunesmith.cli.door import _way_on
from tunesmith.cli.front import VERBS
from tunesmith.errors import CannotTell, Fault, Interrupted

TUNESMITH = [sys.executable, "-m", "tunesmith"]
Capture = pytest.CaptureFixture[str]


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Make the verb `list` end in this exception, far inside."""

    def fall(room: str | None = None) -> object:
        raise error

    monkeypatch.setattr("tunesmith.verbs.members.list_members", fall)


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_the_front_page_names_every_verb(words: list[str], capsys: Capture) -> None:
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert len(VERBS) == 14
    for verb, summary in VERBS.items():
        assert f"  {verb:<8} {summary}\n" in out


def test_the_version_is_the_package_s(capsys: Capture) -> None:
    import tunesmith

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"tunesmith {tunesmith.__version__}\n"


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_ends_in_an_example(verb: str, capsys: Capture) -> None:
    assert main([verb, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"Usage: tunesmith {verb} [OPTIONS]")
    assert VERBS[verb].split(":")[0] in " ".join(out.split())
    example = out.partition("\nExample:\n")[2]
    assert example.startswith(f"  $ tunesmith {verb}")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["lst"], "cli/unknown-verb", "did you mean 'list'?"),
        (["list", "--jsn"], "cli/unknown-option", "did you mean '--json'?"),
        (["plan", "r.yaml", "--st", "a=1"], "cli/unknown-option", "did you mean '--set'?"),
        (["plan", "r.yaml", "--st=1"], "cli/unknown-option", "did you mean '--set'?"),
        (["plan"], "cli/missing-argument", "tunesmith plan RECIPE"),
        (["export"], "cli/missing-argument", "tunesmith export WHAT"),
        (["plan", "r.yaml", "--set"], "cli/missing-value", "--set"),
        (["show", "a", "b"], "cli/too-many-words", "tunesmith show NAME"),
        (["chat", "x", "--max-tokens", "many"], "cli/bad-value", "tunesmith chat --help"),
        (["new", "a", "--base", "b", "--base", "c"], "cli/given-twice", "once"),
        (["inspect"], "cli/no-data", "tunesmith inspect DATA.jsonl"),
        (["plan", "none.yaml"], "recipe/missing", "tunesmith new NAME"),
        (["list", "methds"], "recipe/unknown-room", "did you mean 'methods'?"),
        (["show", "lroa"], "recipe/unknown-member", "did you mean 'lora'?"),
    ],
)
def test_words_that_mean_nothing_are_refused_with_the_nearest_that_do(
    words: list[str], code: str, said: str, capsys: Capture
) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error[{code}]: ")
    assert said in err
    assert "Traceback" not in err
    assert main([*words[:1], "--json", *words[1:]]) == 2
    out, err = capsys.readouterr()
    tree = json.loads(out)["error"]
    assert (tree["code"], set(tree), err) == (code, {"code", "what", "at", "fix"}, "")


def test_several_faults_are_one_json_document(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "r.yaml").write_text("base: 3\nrun: {sed: 1}\n")
    assert main(["plan", str(tmp_path / "r.yaml"), "--json"]) == 2
    faults = json.loads(capsys.readouterr().out)["faults"]
    assert [fault["code"] for fault in faults] == ["recipe/missing-key", "recipe/bad-value", "recipe/unknown-key"]


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (RuntimeError("boom"), "tunesmith/bug", "RuntimeError: boom"),
        (KeyError("boom"), "tunesmith/bug", "--trace"),
        (RuntimeError(), "tunesmith/bug", "no words"),
        (
            ModuleNotFoundError("x", name="onnxruntime.capi"),
            "tunesmith/missing-package",
            'pip install "tunesmith[web]"',
        ),
        (ModuleNotFoundError("x", name="xllamacpp"), "tunesmith/missing-package", 'pip install "tunesmith[gguf]"'),
        (ModuleNotFoundError("x", name="jinja2"), "tunesmith/missing-package", 'pip install "tunesmith[all]"'),
        (ModuleNotFoundError("x", name="tunesmith.methods.x"), "tunesmith/bug", "ModuleNotFoundError"),
        (MemoryError(), "tunesmith/out-of-memory", "run.gradient_accumulation_steps"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
            "tunesmith/out-of-memory",
            "max_length",
        ),
        (RuntimeError("CUDA out of memory. Tried to allocate"), "tunesmith/out-of-memory", "max_length"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "tunesmith/disk-full", "no space"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), "tunesmith/disk-full", "/x"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "tunesmith/refused-by-system", "permission denied"),
        (OSError("no number"), "tunesmith/bug", "no number"),
        (CannotTell("no server"), "tunesmith/cannot-tell", "no server"),
    ],
)
def test_no_exception_gets_out_as_a_traceback(
    error: Exception, code: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    failing(monkeypatch, error)
    assert main(["list"]) == 1
    out, err = capsys.readouterr()
    assert (out, err.startswith(f"error[{code}]: "), "Traceback" in err) == ("", True, False)
    assert said in err
    assert main(["list", "--trace"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert f"error[{code}]: " in err


def test_ctrl_c_ends_with_130_and_a_kind_line(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    failing(monkeypatch, KeyboardInterrupt())
    assert main(["list"]) == 130
    assert "stopped" in capsys.readouterr().err
    assert main(["list", "--json"]) == 130
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "cli/interrupted"


def test_the_way_on_after_ctrl_c_is_true_of_the_verb() -> None:
    assert _way_on(["run", "r.yaml"]) == "type it again"
    assert _way_on(["run", "r.yaml", "--fresh"]) == "type it again without --fresh"
    assert _way_on(["tune", "r.yaml"]) == "type it again with --resume"


def test_ctrl_c_that_a_room_explained_ends_with_130_too(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    failing(monkeypatch, Interrupted(Fault("learn/interrupted", "stopped at step 3", "go on with --resume")))
    assert main(["list"]) == 130
    assert "error[learn/interrupted]" in capsys.readouterr().err


def test_data_goes_to_stdout_and_talk_to_stderr(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    from tunesmith.verbs import members

    real = members.list_members

    def chatty(room: str | None = None) -> object:
        say.note("a note")
        sys.stdout.write("a library prints\n")
        return real(room)

    monkeypatch.setattr(members, "list_members", chatty)
    assert main(["list", "formats", "--json"]) == 0
    out, err = capsys.readouterr()
    assert list(json.loads(out)) == ["formats"]
    assert err == "a note\na library prints\n"
    assert main(["list", "formats", "--json", "--quiet"]) == 0
    assert capsys.readouterr().err == "a library prints\n"


def test_the_voice_before_is_put_back() -> None:
    before = say.hear(say.Silent())
    mine = say.hear(before)
    say.hear(mine)
    main(["list", "formats"])
    assert say.hear(before) is mine


def test_words_after_two_dashes_are_only_words(capsys: Capture) -> None:
    assert main(["show", "--", "--json"]) == 2
    assert capsys.readouterr().err.startswith("error[recipe/unknown-member]")


def test_it_runs_as_a_module_and_writes_to_a_pipe(tmp_path: Path) -> None:
    done = subprocess.run([*TUNESMITH, "list", "--json"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert set(json.loads(done.stdout)) >= {"methods", "exports", "runtimes"}


def test_a_native_library_that_writes_to_stdout_does_not_spoil_the_json(tmp_path: Path) -> None:
    code = (
        "import os, sys, tunesmith.verbs.members as m\n"
        "real = m.list_members\n"
        "m.list_members = lambda room=None: (os.write(1, b'native noise\\n'), real(room))[1]\n"
        "from tunesmith.cli import main\n"
        "sys.exit(main(['list', 'formats', '--json']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (0, "native noise\n")
    assert list(json.loads(done.stdout)) == ["formats"]


@pytest.mark.skipif(os.name == "nt", reason="there are no POSIX pipes on Windows; run it on another system")
@pytest.mark.parametrize("words", [["--help"], ["list"], ["list", "--json"], ["plan", "--help"]])
def test_a_reader_that_leaves_early_is_no_error(words: list[str], tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*TUNESMITH, *words], stdout=write, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGINT on Windows; run it on another system")
def test_ctrl_c_from_outside_ends_with_130(tmp_path: Path) -> None:
    code = (
        "import sys, time, tunesmith.verbs.members as m\n"
        "def wait(room=None):\n    print('waiting', file=sys.stderr, flush=True); time.sleep(60)\n"
        "m.list_members = wait\n"
        "from tunesmith.cli import main\n"
        "sys.exit(main(['list']))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "waiting\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        err = process.stderr.read()
    assert process.returncode == 130
    assert "stopped" in err
    assert "Traceback" not in err


def test_no_color_is_kept_even_on_a_terminal(terminal: Callable[..., tuple[int, str]]) -> None:
    code, said = terminal("list", "formats")
    assert code == 0
    assert "\x1b[" in said
    code, said = terminal("list", "formats", NO_COLOR="1")
    assert "\x1b[3" not in said
    code, said = terminal("lst", NO_COLOR="1")
    assert (code, "\x1b[3" in said) == (2, False)


def test_a_narrow_terminal_keeps_every_word(terminal: Callable[..., tuple[int, str]]) -> None:
    code, said = terminal("show", "lora", COLUMNS="40", NO_COLOR="1")
    assert code == 0
    plain = re.sub(r"\x1b\[[0-9;]*m", "", said.replace("\r", ""))
    assert max(len(line) for line in plain.splitlines()) <= 40
    assert "rank" in said


def test_bars_are_shown_on_a_terminal_and_leave_a_line(terminal: Callable[..., tuple[int, str]]) -> None:
    code = (
        "import sys, time, tunesmith.verbs.members as m, tunesmith.say as say\n"
        "real = m.list_members\n"
        "def slow(room=None):\n"
        "    with say.progress('tune', 4, 'steps') as bar:\n"
        "        for _ in range(4): time.sleep(0.55); bar.advance(1, 'loss 1.5')\n"
        "    return real(room)\n"
        "m.list_members = slow\n"
        "from tunesmith.cli import main\n"
        "sys.exit(main(['list', 'formats']))"
    )
    ended, said = terminal(code=code)
    assert ended == 0
    assert "of 4 steps" in said
    assert "loss 1.5" in said
    assert "tune: 4 steps in 2 s" in said
