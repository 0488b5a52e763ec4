from __future__ import annotations

from importlib.util import find_spec

from tunesmith.errors import Fault


def missing(package: str, module: str) -> list[Fault]:
    """The fault of a package that is not installed, looked up without loading it."""
    if find_spec(module) is not None:
        return []
    what = f"the package {package}, which computes this metric, is not installed"
    return [Fault("metric/missing-package", what, fix="pip install 'tunesmith[prove]'")]
