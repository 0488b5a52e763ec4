"""A recipe made ready: base, text, rows and settings, with every reason why it would not work. No weight is loaded."""

from __future__ import annotations

import json
import random
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith import files, rooms, say
from tunesmith.errors import Fault, TunesmithError
from tunesmith.exports._contract import Dependent
from tunesmith.machine import Chosen, Machine
from tunesmith.recipe import Recipe
from tunesmith.text import virtual, vocabulary
from tunesmith.text.example import Example, Tokens
from tunesmith.text.template import Text
from tunesmith.verbs import _auto
from tunesmith.verbs._dropped import Dropping
from tunesmith.verbs.export import wanted
from tunesmith.weights.facts import BaseFacts

if TYPE_CHECKING:
    from tunesmith.learn.settings import Settings
    from tunesmith.objectives._prepare import Prepared

MOST_HELD_OUT = 256  # rows: the loss of more costs time and tells little
MOST_FAULTS = 50


@dataclass
class Ready:
    """What could be made ready. Where a refusal stood in the way, what follows from it is empty."""

    recipe: Recipe
    machine: Machine
    day: date  # that a template which writes today's date writes
    refusals: list[Fault] = field(default_factory=list)
    values: list[Chosen] = field(default_factory=list)
    facts: BaseFacts | None = None
    settings: Settings | None = None
    rows: list[Tokens] = field(default_factory=list)
    held_out: list[Tokens] = field(default_factory=list)
    chosen_method: Any = None

    @property
    def method(self) -> Any:
        """The method, chosen where the recipe leaves it open; its contract is `methods/_contract.py`."""
        return self.chosen_method or _auto.stand_in(self.recipe.method)

    @property
    def lengths(self) -> list[tuple[int, int]]:
        """(tokens, learnt tokens) of each row."""
        from tunesmith.learn.batches import n_learnt

        return [(len(row.ids), n_learnt(row)) for row in self.rows]


def make_ready(recipe: Recipe, folder: Path) -> Ready:
    """Everything a plan and a run need to know, in the order in which it can be known; `folder` is the run's."""
    ready = Ready(recipe, Machine.look(folder), _day(folder))
    text = _base(ready)
    examples = _examples(ready, text)
    if ready.facts is None:
        return ready
    ready.refusals += ready.method.refuse(ready.facts, ready.machine)
    _exports(ready, ready.facts)
    if text is not None:
        _rows(ready, text, ready.facts, examples)
    if ready.rows and not ready.refusals and _auto.is_open(recipe.method):
        _choose_method(ready, ready.facts, folder)
    if ready.rows and not ready.refusals:
        _settings(ready, ready.facts)
    return ready


def _day(folder: Path) -> date:
    """Today; in the folder of a run, the day of its plan: what goes on after midnight goes on with the same rows."""
    try:
        return date.fromisoformat(json.loads((folder / "plan.json").read_text(encoding="utf-8"))["day"])
    except (OSError, ValueError, KeyError, TypeError):
        return date.today()


def _base(ready: Ready) -> Text | None:
    """Facts and text of the base."""
    from tunesmith.sources._find import source_of

    try:
        ready.facts = source_of(ready.recipe.base).facts(ready.recipe.base)
    except TunesmithError as error:
        ready.refusals += error.faults
        return None
    try:
        return Text.read(ready.facts.folder, ready.day)
    except (OSError, ValueError, KeyError, ImportError) as error:
        what = f"the tokenizer of {ready.recipe.base} cannot be read: {_first_line(error)}"
        fix = "put the tokenizer's files (tokenizer.json, tokenizer_config.json) beside config.json"
        ready.refusals.append(Fault("plan/no-tokenizer", what, fix=fix, file=str(ready.facts.folder)))
        return None


def _examples(ready: Ready, text: Text | None) -> tuple[Sequence[Example], Sequence[Example]]:
    """To learn from, and held out."""
    from tunesmith.formats._reading import read
    from tunesmith.formats._split import split

    data = ready.recipe.data
    named = data.test if isinstance(data.test, str) else None
    dropping = Dropping(data)
    try:
        sources = _sources(ready, named, dropping)
        ready.values += dropping.told(text)
        train = tuple(example for source in sources for example in source)
        if named:
            reading = read(named, data.format)
            _add_faults(ready, reading.faults)
            test = [dropping.see_test(example) for example in reading.examples]
            _not_learnt(ready, train, test)
            return _mixed(ready, sources, train), test
        if not isinstance(data.test, float) or not train:
            return _mixed(ready, sources, train), ()
        kept, held = split(train, data.test, ready.recipe.run.seed)
        why = f"of {len(train)}: {data.test:g} of them, as the recipe says; equal rows stay together"
        ready.values.append(Chosen("held_out", f"{len(held)} rows", why))
        return _mixed(ready, sources, kept), held
    except TunesmithError as error:
        _add_faults(ready, error.faults)
        return (), ()
    finally:
        ready.refusals += dropping.refusals()


def _sources(ready: Ready, without: str | None, dropping: Dropping) -> list[list[Example]]:
    """The training examples by the part of the mixture that they come from."""
    from tunesmith.formats._reading import Stream

    parts = ready.recipe.data.parts
    sources: list[list[Example]] = [[] for _ in parts]
    faults: list[Fault] = []
    for taken in Stream([one.path for one in parts], [one.format for one in parts], without):
        faults += taken.faults
        if taken.example is not None:
            sources[taken.source].append(dropping.see(taken.example))
    _add_faults(ready, faults)
    return sources


def _mixed(ready: Ready, sources: Sequence[Sequence[Example]], kept: Sequence[Example]) -> Sequence[Example]:
    """What is kept to learn from, each part as often as its weight says."""
    from tunesmith.formats._mixture import weighted

    parts = ready.recipe.data.parts
    if all(one.weight == 1 for one in parts):
        return kept
    is_kept = {id(one) for one in kept}
    mixed: list[Example] = []
    for part, examples in zip(parts, sources, strict=True):
        own = [one for one in examples if id(one) in is_kept]
        seen = weighted(own, part.weight, ready.recipe.run.seed)
        mixed += seen
        why = f"weight {part.weight:g}: each of {len(own)} rows is seen {part.weight:g} times"
        if part.weight != int(part.weight):
            why = f"weight {part.weight:g} of {len(own)} rows; drawn by the seed and their content, alike in each epoch"
        ready.values.append(Chosen(f"rows of {part.path}", f"{len(seen)} an epoch", why))
    return mixed


def _not_learnt(ready: Ready, train: Sequence[Example], test: Sequence[Example]) -> None:
    """Test rows that are also training rows tell nothing of what the model makes of new ones."""
    from tunesmith.formats._split import shared

    both = shared(train, test)
    if not both:
        return
    first = both[0]
    what = f"{len(both)} of {len(test)} test rows are also training rows"
    if len(both) < len(test):
        say.warn(f"{what}, the first at {first.file}, line {first.line}: the held-out loss will look too good")
        return
    fix = "name other rows in data.test, or a fraction to hold out, such as 0.1"
    ready.refusals.append(Fault("plan/test-is-train", what, fix=fix, file=first.file, line=first.line or None))


def _rows(ready: Ready, text: Text, facts: BaseFacts, examples: tuple[Sequence[Example], Sequence[Example]]) -> None:
    """Examples to tokens."""
    from tunesmith.learn.batches import n_learnt
    from tunesmith.learn.settings import longest
    from tunesmith.objectives._prepare import prepare

    in_pieces = bool(examples[0]) and not examples[0][0].is_chat
    try:
        most = longest(ready.recipe.run, facts, in_pieces=in_pieces)
    except TunesmithError as error:
        ready.refusals += error.faults
        return
    ready.values.append(most)
    lead = ready.method.lead(facts)
    room = int(most.value) - len(lead)
    if room < 2:
        what = f"the {len(lead)} tokens of the method leave no room for a row of at most {most.value}"
        fix = "set a smaller method.length, or a larger run.max_length"
        ready.refusals.append(Fault("plan/no-room", what, fix=fix))
        return
    words = ready.method.words(facts)
    try:
        text = _knowing(words, lead, facts, ready.day) if words or lead else text
    except ValueError as error:
        fix = "save the tokenizer anew with AutoTokenizer in Python, or set method: lora and name no method.tokens"
        ready.refusals.append(Fault("plan/tokens-refused", _first_line(error), fix=fix, key="method"))
        return
    made = [prepare(part, ready.recipe.objective, text, room) for part in examples]  # type: ignore[arg-type]
    _add_faults(ready, list(dict.fromkeys(fault for one in made for fault in one.faults)))
    _not_seen(words, [row for one in made for row in one.tokens])
    if ready.recipe.run.max_length == "auto":
        ready.values[ready.values.index(most)] = _longest_row(most, made, facts, len(lead), in_pieces=in_pieces)
    ready.rows, held_out = ([row.after(lead) for row in one.tokens if n_learnt(row)] for one in made)
    if len(held_out) > MOST_HELD_OUT:
        why = f"of {len(held_out)}, drawn by the seed: enough to see the loss turn"
        ready.values.append(Chosen("held_out_rows", MOST_HELD_OUT, why))
        held_out = random.Random(ready.recipe.run.seed).sample(held_out, MOST_HELD_OUT)
    ready.held_out = held_out
    if not ready.rows and not ready.refusals:
        what = f"no token of the {len(examples[0])} examples carries loss"
        ready.refusals.append(
            Fault("plan/no-loss", what, fix="give rows with answers: tunesmith inspect shows what is learnt")
        )


def _longest_row(most: Chosen, made: Sequence[Prepared], facts: BaseFacts, n_lead: int, *, in_pieces: bool) -> Chosen:
    """As many tokens as the longest row has, and the share of the rows that are longer than what there is room for."""
    examples = [pieces for one in made for _, pieces in one.rows]
    if in_pieces:
        cut = sum(len(pieces) > 1 for pieces in examples) / max(1, len(examples))
        return Chosen(most.name, most.value, f"{most.why}; {cut:.0%} of the texts are longer and are cut")
    too_long = len({fault for one in made for fault in one.faults if fault.code == "data/too-long"})
    if too_long or not examples:
        share = too_long / max(1, too_long + len(examples))
        return Chosen(most.name, most.value, f"{most.why}; {share:.0%} of the rows are longer")
    longest = n_lead + max(len(piece.ids) for pieces in examples for piece in pieces)
    why = f"the longest of {len(examples):,} rows; none is over the model's {facts.context:,}"
    return Chosen(most.name, longest, why)


def _knowing(words: Mapping[str, int], lead: Sequence[int], facts: BaseFacts, day: date) -> Text:
    """The text of the base once it has further tokens, read from files as the tuned model will have them.

    The tokens of a soft prompt are tried there too; rows are learnt without them.

    Raises:
        ValueError: the tokenizer would give them other ids.
    """
    from tunesmith.weights.save import copy_words

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        shutil.copyfile(facts.folder / "config.json", folder / "config.json")
        copy_words(facts.folder, folder)
        vocabulary.add(folder, words, special=False)
        text = Text.read(folder, day)
        if lead:
            virtual.lead_with(folder, lead)
        return text


def _not_seen(words: Mapping[str, int], rows: Sequence[Tokens]) -> None:
    """Warns of new tokens that no row has: nothing is learnt of them but that they do not come."""
    seen = {one for row in rows for one in row.ids} if words else set()
    missing = [word for word, one in words.items() if one not in seen]
    if missing and rows:
        say.warn(f"no row has {', '.join(missing)}: such a token learns nothing but not to come")


def _exports(ready: Ready, facts: BaseFacts) -> None:
    """What the exports and those that they need refuse, and what the method cannot deliver to them."""
    delivers = ready.method.delivers(facts)
    exporters = wanted(ready.recipe.export)
    by_kind = {export.kind: export for export in exporters}
    for export in exporters:
        kind = type(export).kind
        delivery = delivers.get(kind)
        if delivery is not None and delivery.kind == "refused":
            what = f"{type(ready.method).kind} cannot become {kind}: {delivery.how}"
            other = f"set method: {delivery.instead}" if delivery.instead else "choose another method"
            ready.refusals.append(Fault("plan/no-way-there", what, fix=f"{other}, or leave {kind} out of export"))
        ready.refusals += export.refuse(facts, ready.machine)
        if isinstance(export, Dependent):
            ready.refusals += export.refuse_beside(by_kind)


def _choose_method(ready: Ready, facts: BaseFacts, folder: Path) -> None:
    """The method and its size, now that the rows are known; of a run that goes on, those that it began with."""
    began = _began_with(folder)
    if began is not None:
        ready.chosen_method = began
        ready.values.append(Chosen("method", began.kind, "as the run in this folder began"))
        return
    ready.chosen_method, told = _auto.choose(ready, facts)
    ready.values += told
    ready.refusals += ready.method.refuse(facts, ready.machine)


def _began_with(folder: Path) -> Any:
    """The method of an unfinished run in a folder; None where there is none."""
    if not (folder / "checkpoints").is_dir():
        return None
    try:
        options = dict(json.loads((folder / "plan.json").read_text(encoding="utf-8"))["method"])
        return rooms.find("methods", options.pop("kind")).model_validate(options)
    except (OSError, ValueError, KeyError, TypeError, TunesmithError):
        return None


def _settings(ready: Ready, facts: BaseFacts) -> None:
    """Settings, and whether the machine is large enough for them."""
    from tunesmith.learn.settings import settle

    most = next(int(one.value) for one in ready.values if one.name == "max_length")
    held_out = sum(len(row.ids) for row in ready.held_out)
    asked = ready.recipe.run, ready.method, facts, ready.machine, ready.lengths
    ready.settings, chosen = settle(*asked, max_length=most, n_held_out=held_out)
    ready.values += chosen


def _add_faults(ready: Ready, faults: Sequence[Fault]) -> None:
    """The first of them in full, the rest in number."""
    ready.refusals += faults[:MOST_FAULTS]
    left = len(faults) - MOST_FAULTS
    if left > 0:
        what = f"and {left} more faults in the data"
        ready.refusals.append(Fault("plan/more-data-faults", what, fix="see all of them with: tunesmith inspect DATA"))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def home_of(recipe: Recipe) -> Path:
    """Where a run stands when no folder is named: `runs/` and the recipe's name, or else data, base and method."""
    first = recipe.data.names[0]
    base = recipe.base.rstrip("/").rpartition("/")[2].rpartition(":")[2]
    told = (Path(first).stem, Path(base).stem if base.endswith(".gguf") else base, type(recipe.method).kind)
    words = (recipe.name,) if recipe.name else told
    return Path("runs") / "-".join(re.sub(r"[^A-Za-z0-9._]+", "-", word).strip("-.") or "x" for word in words)


def data_hash(recipe: Recipe) -> str:
    """The content of all data files, in order; the names play no part."""
    from tunesmith.text import rows

    told = []
    for part in (recipe.data.names, recipe.data.test):
        if part is None or isinstance(part, float):
            told.append([str(part)])
            continue
        found, _ = rows.find([part] if isinstance(part, str) else part)
        told.append([files.sha256(path) for path in found if path.is_file()])
    return files.sha256_of(told)
