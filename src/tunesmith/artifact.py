"""What the verbs give back: a folder and its `manifest.json`, which is written last, so that present means done."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from tunesmith import files, say
from tunesmith.errors import ArtifactError, Fault
from tunesmith.recipe import Recipe

if TYPE_CHECKING:
    from tunesmith.text.example import Example

MANIFEST = "manifest.json"
MARK = "identity.json"  # the first file of a run: a folder without it is none, whatever else it holds
TEXT_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "additions.json",
)
Precision = Literal["float32", "float16", "bfloat16", "8bit", "4bit"]
Label = Literal["exact", "quantised", "approximate"]


@dataclass(frozen=True)
class Manifest:
    """What a folder holds, whose child it is, and how it was made.

    `parents` maps a name to the hash of what this was made from; two with the same kind, parents and options are the
    same.
    `files` maps each file's path inside the folder to its size in bytes.
    """

    kind: str
    parents: Mapping[str, str]
    options: Mapping[str, Any]
    about: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, int] = field(default_factory=dict)
    version: str = ""

    @property
    def identity(self) -> str:
        """A hash of what decides the content."""
        return files.sha256_of({"kind": self.kind, "parents": dict(self.parents), "options": dict(self.options)})


def seal(folder: Path, manifest: Manifest, parts: Collection[str] = ()) -> Manifest:
    """Write the manifest, last of all, with the sizes of all other files as they stand, or of `parts` alone.

    What stands beside the `parts` may be changed by whoever owns the folder.
    """
    from tunesmith import __version__

    sizes = {
        name.as_posix(): (folder / name).stat().st_size
        for name in sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        if name.name != MANIFEST and not _hidden(name) and (not parts or name.parts[0] in parts)
    }
    sealed = Manifest(manifest.kind, manifest.parents, manifest.options, manifest.about, sizes, __version__)
    files.write_json(folder / MANIFEST, asdict(sealed))
    return sealed


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder that is done; None where there is none, or where a file it names is gone or cut short.

    Keys that a later version wrote are passed over.
    """
    try:
        tree = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        manifest = Manifest(**{one.name: tree[one.name] for one in fields(Manifest) if one.name in tree})
        sizes = {name: files.inside(folder, name).stat().st_size for name in manifest.files}
    except (OSError, ValueError, TypeError, AttributeError, ArtifactError):
        return None
    if not all(isinstance(part, dict) for part in (manifest.parents, manifest.options, manifest.about)):
        return None
    return manifest if sizes == manifest.files else None


@dataclass(frozen=True)
class Variant:
    """One file, or set of files, of an export that a runtime can load: a GGUF type, an ONNX dtype."""

    name: str
    path: Path
    n_bytes: int
    precision: Precision
    label: Label = "exact"
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Export:
    """A tuned model in a form that some runtime wants."""

    kind: str
    folder: Path
    variants: Mapping[str, Variant]
    about: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path) -> Self | None:
        """The export in a folder; None when it is not done."""
        manifest = read_manifest(folder)
        if manifest is None:
            return None
        try:
            variants = {
                name: Variant(name, folder / one["path"], one["n_bytes"], one["precision"], one["label"], one["about"])
                for name, one in manifest.about["variants"].items()
            }
        except (KeyError, TypeError, AttributeError):
            return None
        about = {key: value for key, value in manifest.about.items() if key != "variants"}
        return cls(manifest.kind, folder, variants, about)

    def about_tree(self) -> dict[str, Any]:
        """What `open` reads back, for the manifest; paths are relative to the folder."""
        return {
            **self.about,
            "variants": {
                name: {
                    "path": one.path.relative_to(self.folder).as_posix(),
                    "n_bytes": one.n_bytes,
                    "precision": one.precision,
                    "label": one.label,
                    "about": dict(one.about),
                }
                for name, one in self.variants.items()
            },
        }


@dataclass(frozen=True)
class Model:
    """A model at rest: a folder that any Hugging Face tool loads (config, safetensors, tokenizer, chat template)."""

    folder: Path
    identity: str
    """Hash of the weights and of the text files beside them."""
    raw_text: bool = False
    """It goes on with a text instead of answering a chat."""
    own_rows: Callable[[], Sequence[Example]] = field(default=tuple, compare=False, repr=False)
    """Reads some rows of the kind that it was tuned for; none where nobody knows of any."""

    @classmethod
    def of(cls, folder: Path, raw_text: bool = False) -> Self:
        """The model in a folder.

        Raises:
            ArtifactError: `artifact/not-a-model`, when there is no config.json or no safetensors file.
        """
        weights = sorted(folder.glob("*.safetensors"))
        if not (folder / "config.json").is_file() or not weights:
            raise ArtifactError(
                Fault(
                    "artifact/not-a-model",
                    "no config.json with safetensors weights here",
                    fix="give a run, a Hugging Face model folder, or a PEFT adapter folder",
                    file=str(folder),
                )
            )
        parts = [*weights, *(folder / name for name in TEXT_FILES if (folder / name).is_file())]
        hashes = {}
        with say.progress(f"hash {folder.name}", sum(part.stat().st_size for part in parts), "bytes") as bar:
            for part in parts:
                hashes[part.name] = files.sha256(part)
                bar.advance(part.stat().st_size)
        return cls(folder, files.sha256_of(hashes), raw_text)


@dataclass(frozen=True)
class Run:
    """A run: recipe, plan, metrics, model and exports in one folder. Done when its manifest is there."""

    folder: Path

    @property
    def begun(self) -> bool:
        """Whether a run stands here at all, done or not."""
        return (self.folder / MARK).is_file()

    @property
    def manifest(self) -> Manifest | None:
        """The manifest of the tuning; None while it is not done."""
        return read_manifest(self.folder)

    @property
    def recipe(self) -> Recipe:
        """The recipe this run was made from."""
        return Recipe.read(self.folder / "recipe.yaml")

    @property
    def adapter(self) -> Path | None:
        """The adapter as PEFT saves it, for methods that have one."""
        folder = self.folder / "adapter"
        return folder if folder.is_dir() else None

    @property
    def model(self) -> Model:
        """The tuned model at rest."""
        return Model.of(self.folder / "model", raw_text=self.recipe.objective.kind == "uft")

    def export_folder(self, kind: str) -> Path:
        """Where the export of this kind stands, or will."""
        return self.folder / "exports" / kind

    @property
    def exports(self) -> Mapping[str, Export]:
        """The exports that are done, by kind."""
        found = sorted((self.folder / "exports").glob("*/manifest.json"))
        opened = (Export.open(path.parent) for path in found)
        return {export.kind: export for export in opened if export is not None}
