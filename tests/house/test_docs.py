"""The pages that are made from the code are as the code is; each error code is raised by some test."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from tunesmith.errors import Fault

ROOT = Path(__file__).resolve().parent.parent.parent
NOT_YET = ROOT / "tests" / "house" / "codes_not_yet_tested.json"


def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tool_docs", ROOT / "tools" / "docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_every_fault_has_a_literal_code() -> None:
    assert tool().without_literal_code() == []


def test_codes_are_words_with_hyphens_in_a_room() -> None:
    codes = {one.code for one in tool().faults()}
    assert len(codes) > 80
    assert [code for code in codes if not re.fullmatch(r"[a-z_]+/[a-z0-9]+(-[a-z0-9]+)*", code)] == []


def test_every_fault_says_how_to_mend_it() -> None:
    """`fix` may be computed; where it is written, it is not empty and does not end as a sentence."""
    for one in tool().faults():
        assert not one.fix.endswith("."), one
        assert not one.what.endswith("."), one
        assert not one.what[:1].isupper() or one.what.split()[0].strip("',:") in PROPER, one


PROPER = {"JSON", "YAML", "Ollama", "Node", "GGUF", "ONNX", "Hub", "Transformers.js", "UTF-8", "LoRA", "OpenAI", "PEFT"}


def test_the_error_page_is_made_from_the_code() -> None:
    made = tool().errors_page()
    assert (ROOT / "docs" / "errors.md").read_text(encoding="utf-8") == made, "mend with: python tools/docs.py"


def test_the_help_page_is_made_from_the_help(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COLUMNS", "NO_COLOR", "TERM"):
        monkeypatch.setenv(name, "x")  # so that what the tool sets is put back afterwards
    made = tool().help_page()
    assert made.count("Example:") == 15
    assert (ROOT / "docs" / "help.md").read_text(encoding="utf-8") == made, "mend with: python tools/docs.py"


def test_every_error_code_is_raised_by_a_test() -> None:
    codes = {one.code for one in tool().faults()}
    files = [path for path in (ROOT / "tests").rglob("*") if path.suffix in (".py", ".json") and path != NOT_YET]
    tests = "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in files)
    named = set(re.findall(r"[a-z_]+/[a-z0-9]+(?:-[a-z0-9]+)*", tests))  # whole codes: one may begin another
    untested = sorted(codes - named)
    allowed = json.loads(NOT_YET.read_text(encoding="utf-8")) if NOT_YET.is_file() else {}
    assert [code for code in untested if code not in allowed] == []
    assert [code for code in allowed if code not in untested] == [], "these are tested now: take them off the list"


def house(readme: str) -> dict[str, str]:
    """The lines of README's "The house": a path with what it answers."""
    block = readme.partition("## The house")[2].partition("```text\n")[2].partition("```")[0]
    lines = [line for line in block.splitlines() if line.strip()]
    return {line.split()[0]: " ".join(line.split()[1:]) for line in lines}


def test_the_house_in_the_readme_is_the_tree() -> None:
    told = house((ROOT / "README.md").read_text(encoding="utf-8"))
    source = ROOT / "src" / "tunesmith"
    real = set()
    for path in source.iterdir():
        hidden = path.name.startswith(("_", ".")) and path.name not in ("__init__.py", "__main__.py")
        if hidden or path.name == "py.typed":
            continue
        real.add(f"{path.name}/" if path.is_dir() else path.name)
    assert len(real) > 15
    assert {name for name in told if not name.startswith("../")} == real
    for name in told:
        assert (source / name).exists(), name
    assert all(told.values())


def test_the_public_names_are_sorted_and_all_can_be_had() -> None:
    import tunesmith

    assert list(tunesmith.__all__) == sorted(tunesmith.__all__)
    assert len(tunesmith.__all__) > 15
    for name in tunesmith.__all__:
        assert getattr(tunesmith, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = tunesmith.nonsense


def test_the_command_line_and_python_use_the_same_words() -> None:
    """A verb's parameters on the command line are those of its function, save how a recipe is named."""
    import inspect
    from importlib import import_module

    from tunesmith.cli.front import VERBS, function

    homes = {"list": ("members", "list_members"), "show": ("members", "show")}
    same = {"set_": "", "runtime": "runtimes", "prompt": "", "max_tokens": ""}
    for verb in VERBS:
        module, name = homes.get(verb, (verb, verb))
        api = inspect.signature(getattr(import_module(f"tunesmith.verbs.{module}"), name)).parameters
        cli = inspect.signature(function(verb)).parameters
        for word in cli:
            expected = word if word in api else same[word]
            assert not expected or expected in api, f"{verb}: {word}"


def test_the_summaries_of_the_front_page_are_those_of_the_verbs() -> None:
    from tunesmith.cli.front import GROUPS, VERBS, function

    assert [verb for group in GROUPS.values() for verb in group] == list(VERBS)
    for verb, summary in VERBS.items():
        assert (function(verb).__doc__ or "").strip().splitlines()[0] == summary


def test_versions_agree() -> None:
    import tunesmith

    told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert told["project"]["version"] == tunesmith.__version__
    assert f"## {tunesmith.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_links_between_our_own_pages_lead_somewhere() -> None:
    pages = [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")]
    links = [
        (page, link)
        for page in pages
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
        if "://" not in link
    ]
    assert len(pages) > 20
    assert len(links) > 5
    assert [f"{page.relative_to(ROOT)}: {link}" for page, link in links if not (page.parent / link).exists()] == []


def test_the_keys_that_programs_rely_on_are_those_that_are_promised() -> None:
    from tunesmith.artifact import Run
    from tunesmith.checks._contract import Finding
    from tunesmith.verbs._fault_groups import Faults
    from tunesmith.verbs._row_numbers import RowNumbers
    from tunesmith.verbs.check import Checked
    from tunesmith.verbs.inspect import Inspection
    from tunesmith.verbs.run import Ran, Stage

    page = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
    checked = Checked(True, (Finding("stops", "gguf", "f16", "llama_cpp", "yes", 1.0, 2.0, ""),)).as_json()
    ran = Ran(Run(Path("runs/x")), (Stage("tune", "done", 1.0),), {}, None).as_json()
    faults = Faults()
    faults.see([Fault("a/b", "c", "d")])
    inspected = Inspection("text", 1, 1, 0, faults, RowNumbers()).as_json()
    keys = [
        *checked,
        *checked["findings"][0],
        *inspected,
        *inspected["faults"][0],
        *inspected["groups"][0],
        *inspected["numbers"],
        *ran,
        *ran["stages"][0],
    ]
    assert len(keys) == 56
    assert [key for key in keys if f"`{key}`" not in page] == []
