"""What the web export says where something it stands on is missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tunesmith.errors import RuntimeFault
from tunesmith.exports import web
from tunesmith.web import packages


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without Node, on which Transformers.js was never installed."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    here = tmp_path / "web"
    here.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(packages.HERE / name, here / name)
    monkeypatch.setattr(packages, "HERE", here)


@pytest.mark.usefixtures("bare")
def test_without_node_the_plan_says_how_to_get_it() -> None:
    assert [fault.code for fault in web._missing_parts()] == ["export/web-no-node"]


@pytest.mark.usefixtures("bare")
def test_without_npm_transformers_js_cannot_be_brought() -> None:
    with pytest.raises(RuntimeFault) as caught:
        packages.get()
    assert [fault.code for fault in caught.value.faults] == ["web/no-packages"]


def test_a_missing_python_package_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "NEEDS", {"no_such_module": "no-such-package"})
    (fault,) = [fault for fault in web._missing_parts() if fault.code == "export/web-parts-missing"]
    assert "no-such-package" in fault.what
    assert fault.fix == "pip install 'tunesmith[web]'"
