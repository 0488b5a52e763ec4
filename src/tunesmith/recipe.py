"""The recipe: what a person asks for. Read once, never changed; what is derived from it goes into the plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, cast, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PositiveFloat,
    PositiveInt,
    PrivateAttr,
    SerializeAsAny,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from tunesmith import changes as sets
from tunesmith import files, rooms, yaml12
from tunesmith.errors import Fault, RecipeError
from tunesmith.recipe_faults import Written, faults_of

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)  # pydantic gives it no public name

Auto = Literal["auto"]
Text = Annotated[str, Field(min_length=1)]


class _SaysItsFaults(ModelMetaclass):
    """What is wrong with a part that is written in Python is said as of one that is read from a file."""

    def __call__(cls, *values: Any, **options: Any) -> Any:
        try:
            return super().__call__(*values, **options)
        except ValidationError as error:
            written = Written(options, "", {}, {}, name=cls.__name__)
            raise RecipeError(faults_of(error.errors(), cast(type[BaseModel], cls), written)) from None


class Part(BaseModel, metaclass=_SaysItsFaults):
    """A part of the recipe: frozen, and it refuses keys that it does not know.

    A member of a room is a Part: its options are its fields, each with a docstring below it that says the unit first.
    `kind` is the name under which `rooms.py` lists it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)
    kind: ClassVar[str] = ""

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: object, info: ValidationInfo) -> object:
        """YAML's `true` stays a truth value; Python would take it for 1."""
        if isinstance(value, bool) and not _takes_bool(cls.model_fields[str(info.field_name)].annotation):
            raise PydanticCustomError("not_a_number", "true and false mean nothing here")
        return value


def _takes_bool(annotation: object) -> bool:
    return annotation in (bool, Any) or any(_takes_bool(part) for part in get_args(annotation))


class OpenMethod(Part):
    """Which weights move is left to the plan, which says what it takes and why."""

    kind: ClassVar[str] = "auto"


def _member(room: str) -> BeforeValidator:
    """Turns `"lora"` or `{kind: lora, rank: 8}` into the member of that name."""
    word = room.removesuffix("s")

    def build(value: object) -> object:
        if isinstance(value, Part):
            if room == "methods" and isinstance(value, OpenMethod):
                return value
            if value.kind not in rooms.ROOMS[room] or not isinstance(value, rooms.find(room, value.kind)):
                raise _unknown(f"{type(value).__name__} is no {word}", room)
            return value
        options = {"kind": value} if isinstance(value, str) else dict(value) if isinstance(value, Mapping) else {}
        kind = options.pop("kind", None)
        if not isinstance(kind, str):
            raise _unknown(f"this {word} has no kind", room, f"write for example kind: {rooms.names(room)[-1]}")
        if room == "methods" and kind == OpenMethod.kind:
            if options:
                what = f"method auto is chosen with all its options, and here is {next(iter(options))}"
                raise _conflict(what, "name a method, such as kind: lora, or leave its options out")
            return OpenMethod()
        if kind not in rooms.ROOMS[room]:
            raise _unknown(f"no {word} is called {kind!r}", room, rooms.did_you_mean(kind, rooms.ROOMS[room]))
        return rooms.find(room, kind).model_validate(options)

    return BeforeValidator(build)


_SAID = "{what}"  # pydantic fills it in


def _unknown(what: str, room: str, fix: str = "") -> PydanticCustomError:
    fix = fix or f"known here: {', '.join(rooms.names(room))}"
    return PydanticCustomError("unknown_member", _SAID, {"what": what, "fix": fix})


def _conflict(what: str, fix: str) -> PydanticCustomError:
    return PydanticCustomError("conflict", _SAID, {"what": what, "fix": fix})


def _known_format(name: str | None) -> str | None:
    if name is not None and name not in rooms.ROOMS["formats"]:
        raise _unknown(f"no format is called {name!r}", "formats", rooms.did_you_mean(name, rooms.ROOMS["formats"]))
    return name


FormatName = Annotated[Text | None, AfterValidator(_known_format)]


class Rows(Part):
    """A part of a mixture: rows from one place, and how much they count."""

    path: Text
    """File, folder, pattern or Hub data set."""
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Times that each row is seen in an epoch; 0.5: half of the rows, the same ones in each epoch."""
    format: FormatName = None
    """How a row is read; `data.format` when left out."""


def _shape(value: object) -> str:
    return "rows" if isinstance(value, Mapping | Rows) else "name"


RowsOrName = Annotated[Annotated[Text, Tag("name")] | Annotated[Rows, Tag("rows")], Discriminator(_shape)]


class Data(Part):
    """What to learn from."""

    train: Text | Annotated[tuple[RowsOrName, ...], Field(min_length=1)]
    """File, folder, pattern or Hub data set, or a list of them, each alone or as path, weight and format."""
    test: Text | Annotated[float, Field(gt=0, lt=1)] | None = None
    """File, or a fraction of `train` that is held out; never learnt from."""
    format: FormatName = None
    """How a row is read; found from the rows when left out."""
    system_prompt: Literal["keep", "drop"] = "keep"
    """`drop`: rows are learnt without the system prompt that they begin with, and asked without it from then on."""

    @property
    def parts(self) -> tuple[Rows, ...]:
        """The parts of `train`, each with its weight and format."""
        named = (self.train,) if isinstance(self.train, str) else self.train
        whole = (one if isinstance(one, Rows) else Rows(path=one) for one in named)
        return tuple(one.model_copy(update={"format": one.format or self.format}) for one in whole)

    @property
    def names(self) -> list[str]:
        """What `train` names, in order."""
        return [one.path for one in self.parts]


class Options(Part):
    """How the run goes."""

    epochs: PositiveFloat | Auto = 3.0
    """Passes over the training rows; auto: three, more of a few rows and fewer of very many."""
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
    """Tokens an example may have; auto: those of the longest row, at most the model's context, and 1024 of raw text."""
    dtype: Auto | Literal["float32", "bfloat16"] = "auto"
    """Type of the matrix products; auto: the faster of those that this machine computes accurately, by measurement."""
    save_dtype: Auto | Literal["float32", "bfloat16"] = "auto"
    """Type of the saved weights; auto: float32 below a billion weights, else bfloat16."""
    checkpoint_minutes: PositiveFloat = 10.0
    """Minutes between checkpoints; one is also written at the end of each epoch and on Ctrl-C."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    """Fixes the order of the rows and the start of new weights."""

    @model_validator(mode="after")
    def _one_size_of_step(self) -> Self:
        if self.tokens_per_step != "auto" and self.gradient_accumulation_steps != "auto":
            what = "tokens_per_step and gradient_accumulation_steps both say how large a step is"
            raise _conflict(what, "keep one of the two; the other is auto")
        return self


class Recipe(Part):
    """Base model + data + method -> exports. Only `base` and `data` have no default."""

    base: Text
    """Hub id, folder, .gguf file, or bundle:NAME."""
    data: Data
    """What to learn from."""
    objective: Annotated[SerializeAsAny[Part], _member("objectives")] = Field(default="sft", validate_default=True)
    """Which tokens carry loss: sft (assistant turns) or uft (all of a raw text)."""
    method: Annotated[SerializeAsAny[Part], _member("methods")] = Field(default="lora", validate_default=True)
    """Which weights move; auto: lora, full where base, rows and memory are made for it, qlora where memory is short."""
    run: Options = Options()
    """How the run goes."""
    export: tuple[Annotated[SerializeAsAny[Part], _member("exports")], ...] = ()
    """The forms the tuned model is written in."""
    prove: bool = False
    """Whether `run` ends with a proof that tuning was worth it; needs held-out rows."""
    _name: str = PrivateAttr("")

    @property
    def name(self) -> str:
        """Its file's name without the ending; empty where it was read from no file."""
        return self._name

    def __eq__(self, other: object) -> bool:
        """Two recipes are one when they ask for the same, wherever they were read."""
        return isinstance(other, Recipe) and self.as_tree() == other.as_tree()

    @model_validator(mode="after")
    def _each_export_once(self) -> Self:
        kinds = [one.kind for one in self.export]
        twice = sorted({kind for kind in kinds if kinds.count(kind) > 1})
        if twice:
            raise _conflict(f"export names {', '.join(twice)} twice", "name each once; its options can hold lists")
        return self

    @model_validator(mode="after")
    def _can_be_proved(self) -> Self:
        if self.prove and self.data.test is None:
            raise _conflict("prove asks held-out rows, and there are none", "set data.test, or leave prove out")
        if self.prove and type(self.objective).kind == "uft":
            raise _conflict("prove compares answers, and raw text has none", "leave prove out")
        return self

    @classmethod
    def read(cls, path: Path | str, changes: Sequence[str] = ()) -> Self:
        """The recipe in a YAML 1.2 file, with `changes` such as `method.rank=8` made before it is checked.

        Relative paths in it are left as they are written: they count from the folder the command is typed in.

        Raises:
            RecipeError: with every fault of the file at once, each with its line and key.
        """
        recipe = cls.from_text(_text_of(Path(path)), file=str(path), changes=changes)
        recipe._name = Path(path).stem
        return recipe

    @classmethod
    def from_text(cls, text: str, file: str = "recipe", changes: Sequence[str] = ()) -> Self:
        """The recipe in a YAML text; see `read`."""
        tree, lines = yaml12.parse(text, file)
        changed = sets.make(tree, changes, {"method": "lora", "objective": "sft"})
        try:
            return cls.model_validate(tree)
        except ValidationError as error:
            written = Written(tree, file, lines, changed)
            raise RecipeError(faults_of(error.errors(), cls, written)) from None

    def as_tree(self) -> dict[str, Any]:
        """The recipe as plain values, `kind` first in each member; `from_text` of its YAML gives the same recipe."""
        tree = self.model_dump(mode="json")
        tree["objective"] = _with_kind(self.objective, tree["objective"])
        tree["method"] = _with_kind(self.method, tree["method"])
        tree["export"] = [_with_kind(part, dump) for part, dump in zip(self.export, tree["export"], strict=True)]
        return tree

    def as_yaml(self) -> str:
        """The recipe as YAML."""
        return yaml12.write(self.as_tree())

    def learning_hash(self) -> str:
        """What decides the trained weights besides base and data, whose content is hashed and not their names.

        How many rows make a step counts, not how many of them go through the model at once.
        """
        tree = self.as_tree()
        del (
            tree["export"],
            tree["prove"],
            tree["base"],
            tree["data"]["train"],
            tree["data"]["test"],
            tree["run"]["checkpoint_minutes"],
        )
        if self.data.system_prompt == "keep":  # as runs from before there was a choice were hashed
            del tree["data"]["system_prompt"]
        mixture = [[one.weight, one.format] for one in self.data.parts]
        if any(weight != 1 or format != self.data.format for weight, format in mixture):
            tree["data"]["mixture"] = mixture
        at_once, batches = self.run.batch_size, self.run.gradient_accumulation_steps
        if self.run.tokens_per_step != "auto":
            tree["run"]["batch_size"] = "auto"
        elif at_once != "auto":
            tree["run"]["batch_size"] = at_once * (1 if batches == "auto" else batches)
            tree["run"]["gradient_accumulation_steps"] = 1
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
