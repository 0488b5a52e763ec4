from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest


def start(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tunesmith", "serve", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    page = tmp_path / "run" / "exports" / "web"
    page.mkdir(parents=True)
    (page / "index.html").write_text("<title>a page</title>")
    (tmp_path / "run" / "secret.txt").write_text("not for the page")
    return tmp_path / "run"


def test_the_address_is_one_json_document_before_the_page_is_served(run: Path) -> None:
    with start(str(run), "--port", "0", "--json", "--quiet") as server:
        assert server.stdout is not None
        said = "".join(server.stdout.readline() for _ in range(3))
        with urllib.request.urlopen(json.loads(said)["address"], timeout=10) as reply:
            assert reply.read() == b"<title>a page</title>"
        server.send_signal(signal.SIGINT)
        assert server.communicate(timeout=20) == ("", "")


def test_a_run_is_served_on_this_machine_until_it_is_stopped(run: Path) -> None:
    with start(str(run), "--port", "0") as server:
        assert server.stdout is not None
        address = server.stdout.readline().split()[1]
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(address, timeout=10) as reply:
            assert reply.read() == b"<title>a page</title>"
            assert reply.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        for outside in ("../../secret.txt", "%2e%2e/%2e%2e/secret.txt"):
            with pytest.raises(urllib.error.HTTPError):
                urllib.request.urlopen(address + outside, timeout=10)
        server.send_signal(signal.SIGINT)
        assert server.wait(20) == 0


def test_a_folder_without_a_page_says_how_to_make_one(tmp_path: Path) -> None:
    with start(str(tmp_path)) as server:
        assert server.wait(60) == 1
        assert server.stderr is not None
        said = server.stderr.read()
    assert "error[web/no-page]" in said
    assert "tunesmith export" in said
