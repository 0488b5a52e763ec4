"""The server of the page: on this machine alone, with the headers that threads need."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tunesmith.errors import RuntimeFault
from tunesmith.web.serve import server, serving


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secret.txt").write_text("not yours")
    page = tmp_path / "web"
    (page / "vendor").mkdir(parents=True)
    (page / "index.html").write_text("<!doctype html><title>x</title>")
    (page / "vendor/a.wasm").write_bytes(b"\0asm")
    (page / "vendor/a.mjs").write_text("export {}")
    return page


def test_files_come_with_the_right_type_and_isolated(folder: Path) -> None:
    with serving(folder) as url:
        assert url.startswith("http://127.0.0.1:")
        for name, kind in (
            ("", "text/html"),
            ("vendor/a.wasm", "application/wasm"),
            ("vendor/a.mjs", "text/javascript"),
        ):
            with urllib.request.urlopen(url + name) as reply:
                assert reply.headers["Content-Type"].startswith(kind)
                assert reply.headers["Cross-Origin-Opener-Policy"] == "same-origin"
                assert reply.headers["Cross-Origin-Embedder-Policy"] == "require-corp"


@pytest.mark.parametrize("path", ["../secret.txt", "%2e%2e/secret.txt", "vendor/", "nothing"])
def test_nothing_outside_and_no_list_of_files_is_given(folder: Path, path: str) -> None:
    with serving(folder) as url, pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url + path)
    assert caught.value.code == 404
    caught.value.close()


def test_a_folder_without_a_page_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFault) as caught:
        server(tmp_path)
    assert [fault.code for fault in caught.value.faults] == ["web/no-page"]


def test_a_port_that_is_taken_is_said(folder: Path) -> None:
    with serving(folder) as url, pytest.raises(RuntimeFault) as caught:
        server(folder, int(url.rstrip("/").rsplit(":")[-1]))
    assert [fault.code for fault in caught.value.faults] == ["web/port-in-use"]
