from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tunesmith import files
from tunesmith.errors import ArtifactError


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith(files.PART))


def test_a_file_is_written_whole_readable_by_others_and_leaves_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    files.write_text(path, "é")
    files.write_text(path, "two")
    assert path.read_text() == "two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert leftovers(path.parent) == []


def test_a_file_that_cannot_be_put_in_its_place_leaves_nothing_beside(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError, match="directory"):
        files.write_bytes(tmp_path / "a", b"x")
    assert leftovers(tmp_path) == []


def test_a_new_file_never_takes_the_place_of_another(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    assert files.write_new_text(path, "one")
    assert not files.write_new_text(path, "two")
    assert path.read_text() == "one"


def test_json_ends_in_a_newline_and_keeps_its_letters(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"é": 1})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "é": 1\n}\n'


def test_a_folder_is_there_only_once_it_is_full(tmp_path: Path) -> None:
    place = tmp_path / "out"
    with files.whole_folder(place) as beside:
        (beside / "a").write_text("1")
        assert not place.exists()
    assert (place / "a").read_text() == "1"
    with files.whole_folder(place) as beside:
        (beside / "b").write_text("2")
        assert (place / "a").exists()
    assert [path.name for path in place.iterdir()] == ["b"]
    assert leftovers(tmp_path) == []


def test_a_folder_that_fails_leaves_what_stood_there(tmp_path: Path) -> None:
    place = tmp_path / "out"
    with files.whole_folder(place) as beside:
        (beside / "a").write_text("1")
    with pytest.raises(FileNotFoundError), files.whole_folder(place) as beside:
        (beside / "b" / "not there").write_text("2")
    assert [path.name for path in place.iterdir()] == ["a"]
    assert leftovers(tmp_path) == []


def killed_when(tmp_path: Path, moment: str) -> None:
    """Fill `out` anew in a process of its own, which is killed before its rename number `moment`."""
    code = f"""
        import os, signal, pathlib
        from tunesmith import files
        seen = []
        real = pathlib.Path.replace
        def replace(self, target):
            seen.append(target)
            if len(seen) == {moment}:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(self, target)
        pathlib.Path.replace = replace
        with files.whole_folder(pathlib.Path("out")) as beside:
            (beside / "new").write_text("2")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, check=False)
    assert done.returncode == -9


@pytest.mark.skipif(os.name == "nt", reason="there is no kill -9 on Windows; run it on another system")
@pytest.mark.parametrize("moment", ["1", "2"])
def test_a_process_killed_while_it_takes_the_place_loses_nothing(tmp_path: Path, moment: str) -> None:
    place = tmp_path / "out"
    place.mkdir()
    (place / "old").write_text("1")
    killed_when(tmp_path, moment)
    assert place.exists() == (moment == "1")
    assert files.recover(place) == (moment == "2")
    assert (place / "old").read_text() == "1"
    with files.whole_folder(place) as beside:
        (beside / "b").write_text("3")
    assert leftovers(tmp_path) == []


def test_leftovers_of_a_folder_whose_name_has_brackets_are_found(tmp_path: Path) -> None:
    place = tmp_path / "a[1]"
    (tmp_path / f"{files.PART}12345678-a[1]").mkdir()
    (tmp_path / f"{files.PART}12345678-other").mkdir()
    (tmp_path / f"{files.PART}12345678-a[1]-words").mkdir()
    with files.whole_folder(place):
        pass
    assert leftovers(tmp_path) == [f"{files.PART}12345678-a[1]-words", f"{files.PART}12345678-other"]


def test_a_hash_is_the_known_one_and_of_a_value_does_not_hang_on_order(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert files.sha256(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
    assert files.sha256_of({"a": 1, "b": [2]}) == files.sha256_of({"b": [2], "a": 1})
    assert files.sha256_of({"a": 1}) != files.sha256_of({"a": "1"})


def test_sizes_add_up(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b" / "c").write_bytes(b"de")
    assert files.size_bytes(tmp_path) == 5
    assert files.size_bytes(tmp_path / "a") == 3
    assert files.free_bytes(tmp_path / "not" / "yet") > 0


def test_a_name_stays_in_its_folder(tmp_path: Path) -> None:
    assert files.inside(tmp_path, "a/b") == (tmp_path / "a" / "b").resolve()
    for name in ("../x", "/etc/passwd", "a/../../x"):
        with pytest.raises(ArtifactError, match="files/outside"):
            files.inside(tmp_path, name)


def test_a_folder_is_held_by_one_process_and_free_when_it_is_killed(tmp_path: Path) -> None:
    code = "; ".join(
        [
            "import time, pathlib, tunesmith.files as files",
            "held = files.locked(pathlib.Path('run'))",
            "held.__enter__()",
            "print('held', flush=True)",
            "time.sleep(60)",
        ]
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ArtifactError) as raised, files.locked(tmp_path / "run"):
            pass
        assert raised.value.faults[0].code == "files/in-use"
        other.kill()
        other.wait()
    with files.locked(tmp_path / "run"):
        pass


def test_what_a_killed_process_had_half_written_goes_when_the_folder_is_held_again(tmp_path: Path) -> None:
    code = """
        import os, pathlib, tunesmith.files as files
        with files.locked(pathlib.Path("run")), files.whole_file(pathlib.Path("run/deep/a.json")) as file:
            file.write(b"half")
            os.kill(os.getpid(), 9)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, check=False)
    (tmp_path / "run" / f"{files.PART}of-the-user.txt").write_text("theirs")
    assert len(leftovers(tmp_path / "run/deep")) == 1
    with files.locked(tmp_path / "run"):
        assert leftovers(tmp_path / "run/deep") == []
        assert len(leftovers(tmp_path / "run")) == 1


def test_who_waits_for_a_held_folder_gets_it_once_it_is_free(tmp_path: Path) -> None:
    code = """
        import pathlib, time, tunesmith.files as files
        with files.locked(pathlib.Path("run")):
            print("held", flush=True)
            time.sleep(1)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with files.locked(tmp_path / "run", waits=True):
            assert other.wait() == 0
