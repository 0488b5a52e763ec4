"""A data set of the Hugging Face Hub: which of its files hold a split, and where they lie once they are fetched."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tunesmith import say, yaml12
from tunesmith.errors import DataError, Fault, RecipeError
from tunesmith.text.row import is_table, is_text

WORD = re.compile(r"(?:hf:)?(?P<name>[\w.-]+(?:/[\w.-]+)?)(?:@(?P<revision>[\w./-]+))?(?P<rest>(?::[\w.+-]+){0,2})")
HOW = "write hf:user/name, hf:user/name:split or hf:user/name:config:split, with @revision after the name"
README = "README.md"
SPLIT_WORDS = {
    "train": ("train", "training"),
    "test": ("test", "testing", "eval", "evaluation"),
    "validation": ("validation", "valid", "val", "dev"),
}


class Named(NamedTuple):
    """What a word asks for; `config` is empty where the data set's own is meant."""

    word: str
    name: str
    revision: str | None
    config: str
    split: str
    is_out_of_reach: bool = False


def is_named(word: str) -> bool:
    """Whether a word says that it means the Hub."""
    return word.startswith("hf:")


def may_be_one(word: str) -> bool:
    """Whether a word that is no file here has the form `user/name`, and no ending of a data file."""
    match = WORD.fullmatch(word)
    return match is not None and "/" in match["name"] and not is_table(word) and not is_text(word)


def fetch(word: str) -> list[Path] | Fault:
    """The files of a split, on this machine; what is there already is not fetched again."""
    match = WORD.fullmatch(word)
    if match is None:
        return Fault("data/bad-hub-name", f"{word!r} is no name of a data set on the Hub", fix=HOW, place=word)
    config, _, split = match["rest"].removeprefix(":").rpartition(":")
    named = Named(word, match["name"], match["revision"], config, split or "train")
    try:
        with _translated(named):
            return _fetch(named)
    except DataError as error:
        return error.faults[0]


def _fetch(named: Named) -> list[Path]:
    listed = _listed(named)
    if listed is None:  # the Hub is out of reach: what was fetched once may do
        named = named._replace(is_out_of_reach=True)
        folder = _snapshot(named, (README,))
        listed = [one.relative_to(folder).as_posix() for one in folder.rglob("*") if one.is_file()]
    about = _about(named, listed)
    chosen = _chosen(named, sorted(one for one in listed if is_table(one)), about)
    folder = _snapshot(named, chosen)
    missing = [one for one in chosen if not (folder / one).is_file()]
    if missing:
        raise DataError(_unreachable(named, FileNotFoundError(missing[0])))
    return [folder / one for one in chosen]


def _about(named: Named, listed: Sequence[str]) -> list[Mapping[str, Any]]:
    """The configs that its README names; empty where it names none."""
    if README not in listed:
        return []
    text = (_snapshot(named, (README,)) / README).read_text(encoding="utf-8", errors="replace")
    head = re.match(r"---\r?\n(.*?)\n---\s", text, re.DOTALL)
    try:
        configs = yaml12.parse(head[1], README)[0].get("configs") if head else None
    except RecipeError:
        return []
    return [one for one in configs if isinstance(one, Mapping)] if isinstance(configs, list) else []


def _chosen(named: Named, tables: Sequence[str], about: Sequence[Mapping[str, Any]]) -> list[str]:
    """The files of the split that is asked for.

    Raises:
        DataError: `data/no-such-config`, `data/no-such-split` or `data/no-hub-files`, with what there is.
    """
    if not tables:
        what = "this data set has no file that can be read"
        fix = "name a revision that has some: @refs/convert/parquet after the name"
        raise DataError(Fault("data/no-hub-files", what, fix=fix, place=named.word))
    files = _of_config(named, tables, about)
    splits = files if isinstance(files, Mapping) else _by_name(files)
    if splits.get(named.split):
        return list(splits[named.split])
    what = f"this data set has no split {named.split!r}"
    fix = f"name one of its splits, such as hf:{named.name}:{':'.join(filter(None, (named.config, min(splits))))}"
    there = f"; it has {', '.join(splits)}"
    raise DataError(Fault("data/no-such-split", what + there, fix=fix, place=named.word))


def _of_config(
    named: Named, tables: Sequence[str], about: Sequence[Mapping[str, Any]]
) -> Mapping[str, list[str]] | list[str]:
    """The files of a config: by split, where the README says so."""
    if about:
        names = [str(one.get("config_name", "default")) for one in about]
        wanted = named.config or ("default" if "default" in names else names[0] if len(names) == 1 else "")
        default = next((one for one in about if one.get("default") is True), None)
        config = about[names.index(wanted)] if wanted in names else default if not named.config else None
        if config is None:
            raise DataError(_no_config(named, names))
        return _by_patterns(config, tables) or list(tables)
    if not named.config:
        return list(tables)
    inside = [one for one in tables if named.config in Path(one).parts[:-1]]
    if not inside:
        raise DataError(_no_config(named, sorted({part for one in tables for part in Path(one).parts[:-1]})))
    return inside


def _no_config(named: Named, names: Sequence[str]) -> Fault:
    what = f"this data set has no config {named.config!r}" if named.config else "this data set has several configs"
    fix = f"write hf:{named.name}:CONFIG:{named.split}"
    return Fault("data/no-such-config", f"{what}; it has {', '.join(names) or 'none'}", fix=fix, place=named.word)


def _by_patterns(config: Mapping[str, Any], tables: Sequence[str]) -> dict[str, list[str]]:
    """The files that a config of a README names, by split."""
    given = config.get("data_files")
    top = str(config.get("data_dir", "")).strip("/")
    if given is None and top:
        return _by_name([one for one in tables if one.startswith(f"{top}/")])
    parts = given if isinstance(given, list) else [given]
    found: dict[str, list[str]] = {}
    for part in parts:
        split, paths = (part.get("split", "train"), part.get("path")) if isinstance(part, Mapping) else ("train", part)
        patterns = [f"{top}/{one}".strip("/") for one in (paths if isinstance(paths, list) else [paths]) if one]
        fits = [one for one in tables if any(fnmatch.fnmatchcase(one, pattern) for pattern in patterns)]
        found.setdefault(str(split), []).extend(fits)
    return {split: files for split, files in found.items() if files}


def _by_name(files: Sequence[str]) -> dict[str, list[str]]:
    """Files by the split that is in their names or folders; all are for training where none says anything."""
    found: dict[str, list[str]] = {}
    for one in files:
        words = re.split(r"[-._ 0-9/]+", one.lower())
        split = next((split for split, names in SPLIT_WORDS.items() if set(names) & set(words)), "")
        found.setdefault(split, []).append(one)
    if list(found) == [""]:
        return {"train": list(files)}
    found.pop("", None)
    return found


def _listed(named: Named) -> list[str] | None:
    """The names of all its files; None when the Hub cannot be reached."""
    import huggingface_hub
    from huggingface_hub import errors

    if _is_offline():
        return None
    api = huggingface_hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)
    try:
        about = api.dataset_info(named.name, revision=named.revision)  # asked once, where a list of files is retried
    except (errors.HfHubHTTPError, errors.HFValidationError):
        raise
    except (errors.HTTPError, OSError):  # type: ignore[attr-defined]
        return None
    return [one.rfilename for one in about.siblings or ()]


def _snapshot(named: Named, patterns: Sequence[str]) -> Path:
    """The folder of these files; with the Hub out of reach, as they were fetched before."""
    import huggingface_hub

    with say.progress(f"fetch {named.name}", None, "files") as bar:
        folder = huggingface_hub.snapshot_download(
            named.name,
            revision=named.revision,
            repo_type="dataset",
            endpoint=os.environ.get("HF_ENDPOINT") or None,
            allow_patterns=[glob.escape(one) for one in patterns],
            local_files_only=named.is_out_of_reach,
            tqdm_class=_quiet(),
        )
        bar.advance(len(patterns))
    return Path(folder)


def _quiet() -> Any:
    from tqdm.auto import tqdm  # type: ignore[import-untyped]

    class Quiet(tqdm):  # type: ignore[misc]
        """A bar that draws nothing: ours is drawn by `say`."""

        def __init__(self, *parts: Any, name: str | None = None, **options: Any) -> None:
            super().__init__(*parts, **{**options, "disable": True})

    return Quiet


@contextmanager
def _translated(named: Named) -> Iterator[None]:
    """The Hub's errors in this project's words. Nothing of a request is repeated, so no token can be."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError:
        fix = "accept them on the data set's page on the Hub, then log in with: hf auth login"
        what = "its owner wants you to accept terms before it can be fetched"
        raise DataError(Fault("data/gated", what, fix=fix, place=named.word)) from None
    except errors.RepositoryNotFoundError:
        what = "the Hub has no such data set, or it is private; and there is no such file here"
        fix = "check the spelling; for a private data set log in with: hf auth login"
        raise DataError(Fault("data/no-such-hub-data", what, fix=fix, place=named.word)) from None
    except errors.RevisionNotFoundError:
        what = f"the data set has no revision {named.revision!r}"
        raise DataError(Fault("data/no-such-revision", what, fix="leave @revision out", place=named.word)) from None
    except errors.HFValidationError:
        what = f"{named.name!r} is no name of a data set on the Hub"
        raise DataError(Fault("data/bad-hub-name", what, fix=HOW, place=named.word)) from None
    except (errors.LocalEntryNotFoundError, errors.HTTPError, OSError) as error:  # type: ignore[attr-defined]
        raise DataError(_unreachable(named, error)) from None


def _unreachable(named: Named, error: BaseException) -> Fault:
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        status = getattr(error.response, "status_code", "?")
        return Fault("data/hub-failed", f"the Hub answered with status {status}", "try again later", place=named.word)
    is_offline = _is_offline()
    why = "HF_HUB_OFFLINE forbids to fetch it" if is_offline else "the Hub cannot be reached"
    what = f"it is no file here, is not in the Hub's cache on this machine, and {why}"
    fix = "unset HF_HUB_OFFLINE" if is_offline else "connect, set HF_ENDPOINT to a mirror, or name a file or folder"
    return Fault("data/hub-unreachable", what, fix=fix, place=named.word)


def _is_offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
