from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from tunesmith.errors import Fault, SourceError
from tunesmith.sources import _cache, _examine
from tunesmith.weights.facts import BaseFacts

SMALL = ("*.json", "*.jinja", "*.txt", "tokenizer.model", "spiece.model")
WEIGHTS = ("*.safetensors",)
NOT_OURS = ("*/*", "consolidated*")  # other runtimes' copies of the same weights
NAME = re.compile(r"[\w.-]+(/[\w.-]+)?(@[\w./-]+)?")


class Hub:
    """A model of the Hugging Face Hub: `org/name`, or `org/name@revision`. HF_ENDPOINT, HF_TOKEN and the like count."""

    @classmethod
    def claims(cls, base: str) -> bool:
        """All that no other source claims."""
        return True

    def facts(self, base: str) -> BaseFacts:
        """What its small files say; the weights are not fetched.

        Raises:
            SourceError: when it cannot be found or reached, or cannot be trained.
        """
        name, revision = named(base)
        facts = _examine.examined(_snapshot(name, revision, SMALL, base), base)
        here = any(facts.folder.glob("*.safetensors"))
        listed = [] if here else _listed(name, facts.folder.name)
        if listed and not any(name.endswith(".safetensors") and "/" not in name for name in listed):
            others = [name for name in listed if name.endswith((".bin", ".pt", ".pth", ".gguf"))]
            raise SourceError(_examine.no_safetensors(base, others))
        return facts

    def bring(self, base: str) -> Path:
        """The snapshot in the Hub's own cache, with weights.

        Raises:
            SourceError: as `facts`.
        """
        commit = self.facts(base).folder.name  # a snapshot's folder bears its commit, which needs no second look
        name, _ = named(base)
        return _examine.weighty(_snapshot(name, commit, (*SMALL, *WEIGHTS), base), base)


def _snapshot(name: str, revision: str | None, patterns: Sequence[str], base: str) -> Path:
    import huggingface_hub

    with _translated(base), _watched(name) if WEIGHTS[0] in patterns else nullcontext():
        folder = huggingface_hub.snapshot_download(
            name,
            revision=revision,
            endpoint=os.environ.get("HF_ENDPOINT") or None,
            allow_patterns=list(patterns),
            ignore_patterns=list(NOT_OURS),
            tqdm_class=_quiet(),
        )
    return Path(folder)


def named(base: str) -> tuple[str, str | None]:
    """`org/name@revision` as name and revision.

    Raises:
        SourceError: `source/bad-name`.
    """
    if not NAME.fullmatch(base):
        raise SourceError(
            Fault(
                "source/bad-name",
                f"{base!r} is no folder here, and cannot be the name of a model on the Hub",
                fix="give org/name, org/name@revision, a folder, a .gguf file, or bundle:NAME",
            )
        )
    name, _, revision = base.partition("@")
    return name, revision or None


def _listed(name: str, commit: str) -> list[str]:
    """The names of all its files; empty when the Hub cannot be asked, which then only means that it is not known."""
    import huggingface_hub
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    try:
        api = huggingface_hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)
        return api.list_repo_files(name, revision=commit)
    except (HTTPError, OSError):
        return []


def _quiet() -> Any:
    from tqdm.auto import tqdm  # type: ignore[import-untyped]

    class Quiet(tqdm):  # type: ignore[misc]
        """A bar that draws nothing: ours is drawn by `say`."""

        def __init__(self, *parts: Any, name: str | None = None, **options: Any) -> None:
            super().__init__(*parts, **{**options, "disable": True})

    return Quiet


def _watched(name: str) -> AbstractContextManager[None]:
    """Progress by what the Hub's cache has grown: its own bars differ from version to version."""
    from huggingface_hub import constants

    blobs = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "blobs"
    return _cache.watched(blobs, f"fetch {name}")


@contextmanager
def _translated(base: str) -> Iterator[None]:
    """The Hub's errors in this project's words. Nothing of a request is repeated, so no token can be."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError:
        raise SourceError(
            Fault(
                "source/gated",
                "its owner wants you to accept terms before it can be fetched",
                fix="accept them on the model's page on the Hub, then log in with: hf auth login",
                place=base,
            )
        ) from None
    except errors.RepositoryNotFoundError:
        raise SourceError(
            Fault(
                "source/not-found",
                "the Hub has no such model, or it is private; and there is no such folder here",
                fix="check the spelling; for a private model log in with: hf auth login",
                place=base,
            )
        ) from None
    except errors.RevisionNotFoundError:
        raise SourceError(
            Fault("source/no-revision", "the model has no such revision", fix="leave @revision out", place=base)
        ) from None
    except errors.HFValidationError:
        raise SourceError(
            Fault("source/bad-name", f"{base!r} is no name of a model on the Hub", fix="give org/name", place=base)
        ) from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise SourceError(_failed(base, error.__cause__ or error)) from None
    except (errors.HTTPError, OSError) as error:  # type: ignore[attr-defined]
        raise SourceError(_failed(base, error)) from None


def _failed(base: str, error: BaseException) -> Fault:
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        status = getattr(error.response, "status_code", "?")
        return Fault("source/hub-failed", f"the Hub answered with status {status}", fix="try again later", place=base)
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    return Fault(
        "source/unreachable",
        "it is not in the Hub's cache on this machine, there is no such folder, and "
        + ("HF_HUB_OFFLINE forbids to fetch it" if offline else f"the Hub cannot be reached ({type(error).__name__})"),
        fix="unset HF_HUB_OFFLINE"
        if offline
        else "connect, set HF_ENDPOINT to a mirror, or use base: bundle:smollm2-135m-instruct",
        place=base,
    )
