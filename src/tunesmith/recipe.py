"""The recipe: what a person asks for. Read once, never changed; what is derived from it goes into the plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    SerializeAsAny,
    ValidationError,
)

from tunesmith import files, rooms
from tunesmith.errors import Fault, RecipeError

Auto = Literal["auto"]


class Part(BaseModel):
    """A part of the recipe: frozen, and it refuses keys that it does not know.

    A member of a room is a Part: its options are its fields, each with a docstring below it that says the unit first.
    `kind` is the name under which `rooms.py` lists it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, strict=False)
    kind: ClassVar[str] = ""


def _member(room: str) -> BeforeValidator:
    """Turns `"lora"` or `{kind: lora, rank: 8}` into the member of that name."""

    def build(value: object) -> object:
        if isinstance(value, str):
            value = {"kind": value}
        if not isinstance(value, Mapping):
            return value
        options = dict(value)
        kind = options.pop("kind", None)
        if not isinstance(kind, str):
            raise ValueError(f"needs a kind: {', '.join(rooms.names(room))}")
        if kind not in rooms.ROOMS[room]:
            raise ValueError(f"no {room.rstrip('s')} is called {kind!r}; {rooms.did_you_mean(kind, rooms.ROOMS[room])}")
        return rooms.find(room, kind).model_validate(options)

    return BeforeValidator(build)


class Data(Part):
    """What to learn from."""

    train: str | tuple[str, ...]
    """File, or files: the rows to learn from."""
    test: str | Annotated[float, Field(gt=0, lt=1)] | None = None
    """File, or a fraction of `train` that is held out; never learnt from."""
    format: str | None = None
    """How a row is read; found from the rows when left out."""


class Options(Part):
    """How the run goes."""

    epochs: PositiveFloat = 3.0
    """Passes over the training rows."""
    batch_size: PositiveInt | Auto = "auto"
    """Rows that go through the model at once; auto: as many as fit in memory and pay."""
    gradient_accumulation_steps: PositiveInt | Auto = "auto"
    """Batches whose gradients are added up before the weights move."""
    tokens_per_step: PositiveInt | Auto = "auto"
    """Learnt tokens (those that carry loss) a step; not together with `gradient_accumulation_steps`."""
    learning_rate: PositiveFloat | Auto = "auto"
    """Step size at its highest; auto: the method's own."""
    warmup_ratio: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Share of the steps in which the learning rate rises from zero."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """AdamW's decoupled decay, on matrices."""
    max_grad_norm: PositiveFloat = 1.0
    """Gradients are scaled down to this global norm."""
    max_length: PositiveInt | Auto = "auto"
    """Tokens an example may have; auto: the model's context."""
    dtype: Auto | Literal["float32", "bfloat16"] = "auto"
    """Type of the matrix products; auto: the faster of those that this machine computes accurately, by measurement."""
    save_dtype: Auto | Literal["float32", "bfloat16"] = "auto"
    """Type of the saved weights; auto: float32 below a billion weights, else bfloat16."""
    checkpoint_minutes: PositiveFloat = 10.0
    """Minutes between checkpoints; one is also written at the end of each epoch and on Ctrl-C."""
    seed: int = 1
    """Fixes the order of the rows and the start of new weights."""


class Recipe(Part):
    """Base model + data + method -> exports. Only `base` and `data` have no default."""

    base: str
    """Hub id, folder, .gguf file, or bundle:NAME."""
    data: Data
    """What to learn from."""
    objective: Annotated[SerializeAsAny[Part], _member("objectives")] = Field(default="sft", validate_default=True)  # type: ignore[assignment]
    """Which tokens carry loss: sft (assistant turns) or uft (all of a raw text)."""
    method: Annotated[SerializeAsAny[Part], _member("methods")] = Field(default="lora", validate_default=True)  # type: ignore[assignment]
    """Which weights move."""
    run: Options = Options()
    """How the run goes."""
    export: tuple[Annotated[SerializeAsAny[Part], _member("exports")], ...] = ()
    """The forms the tuned model is written in."""

    @classmethod
    def read(cls, path: Path | str, changes: Sequence[str] = ()) -> Self:
        """The recipe in a YAML 1.2 file, with `changes` such as `method.rank=8` made before it is checked.

        Relative paths in it are left as they are written: they count from the folder the command is typed in.

        Raises:
            RecipeError: with every fault of the file at once, each with its line and key.
        """
        return cls.from_text(_text_of(Path(path)), file=str(path), changes=changes)

    @classmethod
    def from_text(cls, text: str, file: str = "recipe", changes: Sequence[str] = ()) -> Self:
        """The recipe in a YAML text; see `read`."""
        tree, lines = _parse_yaml(text, file)
        for change in changes:
            _change(tree, change)
        try:
            return cls.model_validate(tree)
        except ValidationError as error:
            raise RecipeError([_explain(one, tree, file, lines) for one in error.errors()]) from None

    def as_tree(self) -> dict[str, Any]:
        """The recipe as plain values, `kind` first in each member; `from_text` of its YAML gives the same recipe."""
        tree = self.model_dump(mode="json")
        tree["objective"] = _with_kind(self.objective, tree["objective"])
        tree["method"] = _with_kind(self.method, tree["method"])
        tree["export"] = [_with_kind(part, dump) for part, dump in zip(self.export, tree["export"], strict=True)]
        return tree

    def as_yaml(self) -> str:
        """The recipe as YAML."""
        from io import StringIO

        from ruamel.yaml import YAML

        out = StringIO()
        yaml = YAML(typ="safe", pure=True)
        yaml.default_flow_style = False
        yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
        yaml.dump(self.as_tree(), out)
        return out.getvalue()

    def learning_hash(self) -> str:
        """What decides the trained weights: all but the exports. Two recipes with one hash give one run."""
        tree = self.as_tree()
        del tree["export"]
        return files.sha256_of(tree)


def _with_kind(part: Part, dump: Mapping[str, Any]) -> dict[str, Any]:
    return {"kind": type(part).kind, **dump}


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecipeError(
            Fault("recipe/missing", "there is no such recipe", fix="write one with: tunesmith new NAME", file=str(path))
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            Fault("recipe/unreadable", f"cannot be read: {error}", fix="give a UTF-8 text file", file=str(path))
        ) from None


def _parse_yaml(text: str, file: str) -> tuple[dict[str, Any], Mapping[tuple[str | int, ...], int]]:
    """The tree, and the line (from 1) of each key in it."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        tree = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        line = mark.line + 1 if mark else None
        raise RecipeError(
            Fault("recipe/not-yaml", str(error.problem), fix="mend the YAML at this line", file=file, line=line)
        ) from None
    except YAMLError as error:
        raise RecipeError(Fault("recipe/not-yaml", str(error), fix="mend the YAML", file=file)) from None
    if not isinstance(tree, Mapping):
        raise RecipeError(
            Fault("recipe/not-a-mapping", "a recipe is a list of `key: value` lines", fix="see: tunesmith new NAME", file=file)
        )
    lines: dict[tuple[str | int, ...], int] = {}
    _note_lines(tree, (), lines)
    return _plain(tree), lines


def _note_lines(node: Any, path: tuple[str | int, ...], lines: dict[tuple[str | int, ...], int]) -> None:
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        lines[(*path, key)] = node.lc.data[key][0] + 1
        _note_lines(value, (*path, key), lines)


def _plain(node: Any) -> Any:
    """The same values without ruamel's own classes."""
    if isinstance(node, Mapping):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value) for value in node]
    for plain in (bool, int, float, str):
        if isinstance(node, plain):
            return plain(node)
    return node


def _change(tree: dict[str, Any], change: str) -> None:
    from ruamel.yaml import YAML

    key, equals, value = change.partition("=")
    if not equals or not key:
        raise RecipeError(Fault("recipe/bad-set", f"{change!r} is not KEY=VALUE", fix="for example: --set method.rank=8"))
    *way, last = key.split(".")
    node = tree
    for step in way:
        inner = node.get(step)
        if isinstance(inner, str) and step in ("method", "objective"):
            inner = {"kind": inner}
        elif inner is None:
            inner = {"kind": "lora"} if step == "method" else {"kind": "sft"} if step == "objective" else {}
        if not isinstance(inner, dict):
            raise RecipeError(Fault("recipe/bad-set", f"{key!r}: {step!r} holds no keys", fix="for example: --set method.rank=8"))
        node[step] = inner
        node = inner
    node[last] = _plain(YAML(typ="rt").load(value)) if value else ""


def _explain(error: Any, tree: Mapping[str, Any], file: str, lines: Mapping[tuple[str | int, ...], int]) -> Fault:
    """What pydantic says to programmers, said to the person who wrote the recipe."""
    path = tuple(error["loc"])
    known_path = path
    while known_path and known_path not in lines:
        known_path = known_path[:-1]
    place = {"file": file, "line": lines.get(known_path), "key": ".".join(str(step) for step in path)}
    inner = error.get("ctx", {}).get("error")
    if error["type"] == "extra_forbidden":
        known = _known_keys(path[:-1], tree)
        return Fault("recipe/unknown-key", f"there is no key {path[-1]!r}", fix=rooms.did_you_mean(str(path[-1]), known), **place)
    if error["type"] == "missing":
        return Fault("recipe/missing-key", f"{path[-1]!r} is needed", fix=f"add {path[-1]}: ...", **place)
    if error["type"] == "value_error" and "is called" in str(inner):
        what, _, cure = str(inner).partition("; ")
        return Fault("recipe/unknown-member", what, fix=cure, **place)
    seen = f", and this is {error['input']!r}" if error["type"] != "value_error" else ""
    said = str(inner) if inner is not None else error["msg"][0].lower() + error["msg"][1:]
    return Fault("recipe/bad-value", f"{said}{seen}", fix=f"change the value of {place['key']}", **place)


def _known_keys(path: Sequence[str | int], tree: Mapping[str, Any]) -> tuple[str, ...]:
    if not path:
        return tuple(Recipe.model_fields)
    head = str(path[0])
    if head in ("data", "run"):
        return tuple((Data if head == "data" else Options).model_fields)
    room = {"method": "methods", "objective": "objectives", "export": "exports"}[head]
    value: Any = tree[head]
    for step in path[1:]:
        value = value[step] if isinstance(step, int) or (isinstance(value, Mapping) and step in value) else value
    kind = value.get("kind") if isinstance(value, Mapping) else value
    return ("kind", *rooms.find(room, str(kind)).model_fields)
