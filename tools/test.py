"""The one test command: `python3 tools/test.py`. Brings what the tests need, keeps it for the next call, and runs them.

With words behind it, `python3 tools/test.py tests/exports -k gguf`, only pytest runs, with those words.
Where all parts are here, or CI is set, a skipped test is a failed one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import needs
import parts

CHECKS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy",),
    ("lint-imports",),
)


def main(words: list[str]) -> int:
    """The exit code: 0 when every check and every test passed, and in CI nothing was missing."""
    python = parts.virtual_environment()
    if python is None:
        return 1
    missing = [lack for part in parts.OTHERS for lack in part(python)]
    for lack in missing:
        print(f"missing: {lack}", flush=True)
    in_ci = bool(os.environ.get("CI"))
    if missing and in_ci:
        print("in CI nothing may be missing", flush=True)
        return 1
    failed = [] if words else [check for check in CHECKS if _run(python, check)]
    settings = {needs.NO_SKIP: "1"} if in_ci or not missing else {}
    tests = _run(python, ("pytest", "-m", "", *words), settings)  # slow ones too
    for check in failed:
        print(f"failed: {' '.join(check)}", flush=True)
    return tests or int(bool(failed))


def _run(python: Path, command: tuple[str, ...], settings: dict[str, str] | None = None) -> int:
    print(f"$ {' '.join(command)}", flush=True)
    began = time.monotonic()
    way = os.pathsep.join([str(python.parent), os.environ.get("PATH", "")])
    env = {**os.environ, "PATH": way, **(settings or {})}
    code = subprocess.run([python.parent / command[0], *command[1:]], cwd=needs.ROOT, env=env, check=False).returncode
    print(f"  {time.monotonic() - began:.0f} s", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
