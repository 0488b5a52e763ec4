"""Every member: one file, one line in rooms.py, one docs page, a recipe or a row where its room asks for them."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest

from tunesmith import rooms
from tunesmith.recipe import Part, Recipe

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCE = ROOT / "src" / "tunesmith"
MEMBERS = [(room, name) for room, table in rooms.ROOMS.items() for name in table]
IN_RECIPES = ("objectives", "methods", "exports")


def files_of(room: str) -> set[str]:
    """The public files of a room; what begins with `_` belongs to the members."""
    return {path.stem for path in (SOURCE / room).glob("*.py") if not path.name.startswith("_")}


def test_the_table_is_all_there() -> None:
    assert len(rooms.ROOMS) == 9
    assert len(MEMBERS) >= 42


@pytest.mark.parametrize("room", rooms.ROOMS)
def test_the_files_of_a_room_and_its_table_agree_both_ways(room: str) -> None:
    table = rooms.ROOMS[room]
    assert files_of(room) == set(table)
    for name, home in table.items():
        module, _, attribute = home.partition(":")
        assert module == f"tunesmith.{room}.{name}"
        assert attribute.isidentifier()


@pytest.mark.parametrize(("room", "name"), MEMBERS)
def test_a_member_is_found_under_its_own_name_and_says_what_it_is(room: str, name: str) -> None:
    found = rooms.find(room, name)
    if room != "sources":
        assert found.kind == name
    assert inspect.getdoc(found), f"{room}/{name} has no docstring"
    if room in IN_RECIPES:
        assert issubclass(found, Part)
        for option, field in found.model_fields.items():
            assert field.description, f"{room}/{name}: {option} has no docstring below it"


@pytest.mark.parametrize(("room", "name"), MEMBERS)
def test_a_member_keeps_its_room_s_contract(room: str, name: str) -> None:
    """Every public name of the Protocol is there, and its functions take the same words."""
    word = {"exports": "Exporter"}.get(room, room.removesuffix("s").capitalize())
    contract = getattr(importlib.import_module(f"tunesmith.{room}._contract"), word)
    found = rooms.find(room, name)
    fixed = [key for key, kind in contract.__annotations__.items() if str(kind).startswith("ClassVar")]
    asked = [*fixed, *(key for key in vars(contract) if not key.startswith("_"))]
    assert asked
    for key in asked:
        member = getattr(found, key, None)
        assert member is not None, f"{room}/{name} lacks {key}"
        wanted = vars(contract).get(key)
        if callable(getattr(wanted, "__func__", wanted)):
            theirs = list(inspect.signature(getattr(wanted, "__func__", wanted)).parameters)[1:]
            ours = list(inspect.signature(getattr(member, "__func__", member)).parameters)[1:]
            assert [one.lstrip("_") for one in ours][: len(theirs)] == theirs, f"{room}/{name}.{key}"


@pytest.mark.parametrize(("room", "name"), MEMBERS)
def test_a_member_has_a_docs_page(room: str, name: str) -> None:
    page = ROOT / "docs" / room / f"{name}.md"
    assert page.is_file(), f"write docs/{room}/{name}.md"
    assert page.read_text(encoding="utf-8").startswith(f"# {name}\n")


def heads(page: Path) -> list[str]:
    return re.findall(r"^(?:## |\*\*)(.+?)(?:\*\*.*)?$", page.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("room", rooms.ROOMS)
def test_the_pages_of_a_room_share_their_heads_in_one_order(room: str) -> None:
    """The second page is read in seconds; one that has more to say may have more heads."""
    pages = [heads(ROOT / "docs" / room / f"{name}.md") for name in rooms.ROOMS[room]]
    assert len(pages) == len(rooms.ROOMS[room])
    shared = [head for head in pages[0] if all(head in page for page in pages)]
    assert len(shared) >= 2, pages
    assert [[head for head in page if head in shared] for page in pages] == [shared] * len(pages)


def test_there_is_no_docs_page_of_a_member_that_is_gone() -> None:
    """Other pages of a room are welcome where a member's page leads to them."""
    for room in rooms.ROOMS:
        pages = {page.stem: page.read_text(encoding="utf-8") for page in (ROOT / "docs" / room).glob("*.md")}
        told = "".join(text for name, text in pages.items() if name in rooms.ROOMS[room])
        assert [name for name in pages if name not in rooms.ROOMS[room] and f"({name}.md" not in told] == [], room


def test_every_method_objective_and_export_has_a_recipe_that_uses_it() -> None:
    recipes = [Recipe.read(path) for path in sorted((ROOT / "recipes").glob("*.yaml"))]
    assert len(recipes) >= 4
    used = {
        "methods": {recipe.method.kind for recipe in recipes},
        "objectives": {recipe.objective.kind for recipe in recipes},
        "exports": {one.kind for recipe in recipes for one in recipe.export},
    }
    assert used["methods"] == set(rooms.names("methods"))
    assert used["objectives"] == set(rooms.names("objectives"))
    assert used["exports"] == set(rooms.names("exports"))


def test_every_method_has_a_row_in_the_matrix() -> None:
    rows = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "matrix").glob("*.py"))
    assert [name for name in rooms.names("methods") if not re.search(rf"\b{name}\b", rows, re.IGNORECASE)] == []
