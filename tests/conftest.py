from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import needs

# Threads that wait by spinning make tiny models many times slower where cores are few or shared.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
if "PYTEST_XDIST_WORKER" in os.environ:  # a process for each core: in each of them, and what it starts, one thread
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# A shell that starts the tests in the background ignores Ctrl-C for them, and so for every program that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
TINY_PRODUCTS = ("learn", "matrix", "methods", "same", "weights")  # the folders whose tests compute in this process
NOBODY = "127.0.0.1:9"  # nobody listens there: no test talks to a server of the person who runs it


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests come last; the longest first among them, so that no process waits long for the other at the end."""
    items.sort(key=lambda item: (item.get_closest_marker("slow") is not None, item.path.parent.name != "e2e"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Where nothing may be skipped, a skip is a failure that says what was missing."""
    report = yield
    _no_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Any:
    """The same for files that skip themselves as they are read."""
    report = yield
    _no_skip(report)
    return report


def _no_skip(report: Any) -> None:
    if not report.skipped or hasattr(report, "wasxfail") or not os.environ.get(needs.NO_SKIP):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if needs.MAY_BE_ABSENT in reason and not os.environ.get("CI"):
        return
    report.outcome = "failed"
    report.longrepr = f"skipped, and nothing may be skipped here: {reason}"


@pytest.fixture(autouse=True)
def _nobody_elses_ollama(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "ollama_server" not in request.fixturenames:
        monkeypatch.setenv("OLLAMA_HOST", NOBODY)


@pytest.fixture(autouse=True)
def _one_thread(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tiny products: more threads only wait for each other."""
    if request.path.parent.name not in TINY_PRODUCTS:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def ollama_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[needs.OllamaServer]:
    """A real Ollama on a free port of 127.0.0.1, with models of its own; OLLAMA_HOST names it for the tests."""
    binary = needs.ollama_binary()
    if binary is None:
        pytest.skip(f"Ollama is missing; to get it, {needs.GET_ALL}")
    folder = tmp_path_factory.mktemp("ollama")
    before = os.environ.get("OLLAMA_HOST")
    with _serving(binary, folder) as server:
        os.environ["OLLAMA_HOST"] = server.host
        yield server
    os.environ.pop("OLLAMA_HOST")
    if before is not None:
        os.environ["OLLAMA_HOST"] = before


@pytest.fixture(scope="session")
def learnt_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama that answers a few questions by heart and ends its answers, as a Hugging Face folder."""
    from tiny.learnt import save_learnt

    return save_learnt(tmp_path_factory.mktemp("learnt") / "learnt")


@pytest.fixture(scope="session")
def learnt_gguf(learnt_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The GGUF export of `learnt_model`, as f32 and q8_0."""
    from tunesmith.artifact import Model
    from tunesmith.exports.gguf import Gguf

    into = tmp_path_factory.mktemp("exports") / "gguf"
    into.mkdir()
    return Gguf(types=("f32", "q8_0")).write(Model.of(learnt_model), {}, into)


class _serving:
    def __init__(self, binary: Path, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.host = f"127.0.0.1:{free.getsockname()[1]}"
        self.folder = folder
        empty = folder / "empty"  # Ollama searches the current folder for binaries of its own
        empty.mkdir()
        settings = {
            "OLLAMA_HOST": self.host,
            "OLLAMA_MODELS": str(folder / "models"),
            "OLLAMA_MAX_LOADED_MODELS": "1",
            "OLLAMA_NUM_PARALLEL": "1",
            "HOME": str(folder),
        }
        self.log = (folder / "server.log").open("w")
        self.process = subprocess.Popen(
            [binary, "serve"], cwd=empty, env={**os.environ, **settings}, stdout=self.log, stderr=subprocess.STDOUT
        )

    def __enter__(self) -> needs.OllamaServer:
        for _ in range(300):
            version = _version(self.host)
            if version:
                return needs.OllamaServer(self.host, version, self.folder)
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        self.__exit__()
        raise RuntimeError("Ollama did not start:\n" + (self.folder / "server.log").read_text()[-2000:])

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


def _version(host: str) -> str:
    import json

    try:
        with urllib.request.urlopen(f"http://{host}/api/version", timeout=2) as reply:
            return str(json.load(reply)["version"])
    except (urllib.error.URLError, OSError, ValueError):
        return ""


@pytest.fixture(scope="session")
def learnt_web(learnt_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The web export of `learnt_model`, in all dtypes, q4 first; its title is markup that must stay text."""
    from tunesmith.artifact import Model
    from tunesmith.exports.web import Web

    needs.need_node()
    into = tmp_path_factory.mktemp("exports") / "web"
    into.mkdir()
    web = Web(dtypes=("q4", "fp32", "fp16", "q8", "q4f16"), title="Tiny <b>one</b>", prompts=("Say hello.",))
    return web.write(Model.of(learnt_model), {}, into)
