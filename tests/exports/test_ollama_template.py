from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import needs
from tiny.families import FAMILIES, text_of
from tunesmith.exports import _modelfile
from tunesmith.exports._go_template import joined, render
from tunesmith.exports._turns import BATTERY, Derived, derive
from tunesmith.ollama_server import Server

ASK = [{"role": "user", "content": "Hi"}]
SAYABLE = {"chatml", "inst", "inst in letters", "closing", "closed thought", "colon", "colon, space", "no end"}
TRIM_OR_REWRITE = {"headers", "model role", "strips", "thinking", "opened thought"}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_template_is_derived_where_a_go_template_can_say_it(family: str) -> None:
    derived = derive(text_of(FAMILIES[family]), bos_is_added=FAMILIES[family].bos is not None)
    assert bool(derived.template) != bool(derived.why_not)
    if family in SAYABLE | TRIM_OR_REWRITE:
        assert bool(derived.template) == (family in SAYABLE), derived.why_not


def test_the_default_system_prompt_becomes_the_system() -> None:
    assert derive(text_of(FAMILIES["chatml"]), bos_is_added=False).system == "You are tiny."


def test_bos_is_written_only_where_the_runtime_does_not_add_it() -> None:
    text = text_of(FAMILIES["inst"])
    assert not derive(text, bos_is_added=True).template.startswith("<s>")
    assert derive(text, bos_is_added=False).template.startswith("<s>")


def test_a_template_with_the_date_in_it_is_left_to_jinja() -> None:
    text = text_of(FAMILIES["chatml"])
    text.tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }}" + FAMILIES["chatml"].template
    assert "date" in derive(text, bos_is_added=False).why_not


@pytest.mark.parametrize(
    ("before", "after"), [("\\user{", "}"), ("{", "{{"), ("{{{", "}}")], ids=["latex", "brace", "braces"]
)
def test_braces_round_a_turn_are_said_or_left_to_jinja(before: str, after: str) -> None:
    text = text_of(FAMILIES["chatml"])
    text.tokenizer.chat_template = (
        f"{{% for one in messages %}}{{{{ {before!r} + one['content'] + {after!r} }}}}{{% endfor %}}"
        "{% if add_generation_prompt %}{{ ':' }}{% endif %}"
    )
    derived = derive(text, bos_is_added=False)
    assert bool(derived.template) != bool(derived.why_not)
    if derived.template:
        assert render(derived.template, ASK) == f"{before}Hi{after}:"


def test_a_wrong_template_is_seen_by_the_battery(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof must be able to fail: a derived template with one character changed is thrown away."""
    from tunesmith.exports import _turns

    emit = _turns._emit
    monkeypatch.setattr(_turns, "_emit", lambda turns: emit(turns).replace("user\n", "user \n"))
    assert derive(text_of(FAMILIES["chatml"]), bos_is_added=False).template == ""


def test_the_interpreter_renders_what_a_hand_would_write() -> None:
    template = (
        '{{ $n := false }}{{ range $i, $m := .Messages }}{{ if and (eq $i 0) (ne .Role "system") }}[{{ $n = true }}'
        '{{ else if eq $m.Role "user" }}<{{ else }}?{{ end }}{{ .Content }}{{ if $n }}!{{ end }}'
        '{{ if eq (len (slice $.Messages $i)) 1 }}{{ "{{" }}{{ end }}{{ end }}{{ .System }}'
    )
    talk = [{"role": role, "content": role[0]} for role in ("user", "assistant", "user")]
    assert render(template, talk) == "[u!?a!<u!{{"
    assert render(template, [{"role": "system", "content": "s"}, *ASK]) == "?s<Hi{{s"


def test_turns_of_one_role_are_joined_as_ollama_joins_them() -> None:
    assert joined([*ASK, *ASK])[0]["content"] == "Hi\n\nHi"


@pytest.mark.parametrize(
    "template",
    ["{{ .System | upper }}", "{{ .Unknown }}", "{{- .System }}", "{{ range .Messages }}", "{{ end }}", "{{ $x }}"],
)
def test_the_interpreter_refuses_what_it_does_not_know(template: str) -> None:
    with pytest.raises(ValueError, match=r"not known here|without"):
        render(template, ASK)


@pytest.mark.parametrize("family", sorted(SAYABLE))
def test_ollama_renders_the_derived_template_as_the_tokenizer_renders_its_own(
    family: str, learnt_gguf: Any, ollama_server: needs.OllamaServer
) -> None:
    text = text_of(FAMILIES[family])
    derived = derive(text, bos_is_added=False)
    server = Server.at(ollama_server.host)
    _create(server, derived, learnt_gguf)
    n_seen = 0
    for name, messages in BATTERY.items():
        if messages[-1]["role"] == "assistant" or not _renders(text, messages):
            continue
        body = {"model": "template", "messages": list(messages), "_debug_render_only": True}
        seen = server.ask("/api/chat", body)["_debug_info"]["rendered_template"]
        assert seen == text.render(joined(messages), prompt=True), name
        n_seen += 1
    assert n_seen >= 10


def _create(server: Server, derived: Derived, gguf: Any) -> None:
    from tunesmith.ollama_server import digest_of

    path = gguf.variants["f32"].path
    payload = {"model": "template", "files": {path.name: digest_of(path)}, "template": derived.template}
    server.create({**payload, **({"system": derived.system} if derived.system else {})}, path)


def _renders(text: Any, messages: Any) -> bool:
    from jinja2.exceptions import TemplateError

    try:
        text.render(joined(messages), prompt=True)
    except TemplateError:
        return False
    return True


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("two\nlines\tand “quotes”, 東京 🙂", True),
        ("a\u00a0b", False),
        ("東京\u3000", False),
        ("👩\u200d🚀", False),
        ('he said """so"""', False),
    ],
)
def test_a_text_that_a_modelfile_would_change_is_refused(words: str, kept: bool) -> None:
    assert _modelfile.is_kept(words) == kept
    assert (_modelfile.modelfile("../m.gguf", {"system": words}) is not None) == kept


def test_a_modelfile_is_read_back_by_ollama_as_it_was_meant(
    learnt_gguf: Any, ollama_server: needs.OllamaServer, tmp_path: Path
) -> None:
    import os
    import subprocess

    payload = {
        "template": '{{ range .Messages }}"{{ .Content }}"\n{{ end }}',
        "system": ' "Quoted" at the start, spaces at the end\n\n',
        "parameters": {"num_ctx": 256, "temperature": 0.25, "stop": ["<|x|>", "two words"]},
    }
    twin = _modelfile.modelfile(os.path.relpath(learnt_gguf.variants["f32"].path, tmp_path), payload)
    assert twin is not None
    (tmp_path / "Modelfile").write_text(twin)
    binary = needs.ollama_binary()
    assert binary is not None
    env = {**os.environ, "OLLAMA_HOST": ollama_server.host, "HOME": str(tmp_path)}
    command = [str(binary), "create", "twin", "-f", str(tmp_path / "Modelfile")]
    subprocess.run(command, env=env, check=True, capture_output=True)
    shown = Server.at(ollama_server.host).ask("/api/show", {"model": "twin"})
    assert shown["template"] == payload["template"]
    assert shown["system"] == payload["system"]
    told = [line.split(maxsplit=1) for line in shown["parameters"].splitlines()]
    assert sorted(told) == [
        ["num_ctx", "256"],
        ["stop", '"<|x|>"'],
        ["stop", '"two words"'],
        ["temperature", "0.25"],
    ]
