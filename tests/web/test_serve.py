"""The server of the page: on this machine alone, with the headers that threads need."""

from __future__ import annotations

import http.client
import re
import urllib.error
import urllib.request
from pathlib import Path

import pytest

import needs
from tunesmith.errors import RuntimeFault
from tunesmith.web.serve import headers, server, serving


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secret.txt").write_text("not yours")
    page = tmp_path / "web"
    (page / "vendor").mkdir(parents=True)
    (page / "link").symlink_to(tmp_path)
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


def test_the_policy_of_the_page_is_sent_too_so_that_it_binds_the_worker() -> None:
    page = (needs.WEB / "index.html").read_text()
    meta = re.search(r'content="(default-src [^"]+)"', page)
    assert meta is not None
    assert headers()["Content-Security-Policy"] == meta[1] + "; frame-ancestors 'none'"


def test_a_name_that_a_site_points_at_this_machine_gets_nothing(folder: Path) -> None:
    with serving(folder) as url:
        for host, status in (("evil.example", 404), ("localhost:9000", 200)):
            talk = http.client.HTTPConnection(url[7:-1])
            talk.request("GET", "/index.html", headers={"Host": host})
            assert talk.getresponse().status == status
            talk.close()


@pytest.mark.parametrize("path", ["../secret.txt", "%2e%2e/secret.txt", "vendor/", "nothing", "link/secret.txt"])
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


@pytest.mark.parametrize("port", [70_000, -1])
def test_a_port_that_is_none_is_said(folder: Path, port: int) -> None:
    with pytest.raises(RuntimeFault) as caught:
        server(folder, port)
    assert [fault.code for fault in caught.value.faults] == ["web/port-in-use"]
    assert "65535" in caught.value.faults[0].what
