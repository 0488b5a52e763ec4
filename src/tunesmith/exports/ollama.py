from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, PositiveInt

from tunesmith import files, rooms, say
from tunesmith.artifact import Export, Model, Precision, Variant
from tunesmith.errors import ExportError, Fault, RuntimeFault
from tunesmith.exports import _conversion, _modelfile, _turns
from tunesmith.machine import Machine
from tunesmith.ollama_server import NATIVE_JINJA, SUPPRESSES, Server, digest_of, get, is_known_older, owner_of
from tunesmith.recipe import Auto, Part
from tunesmith.text.template import Text
from tunesmith.weights.facts import BaseFacts

Type = Literal["f32", "f16", "bf16", "q8_0"]
Value = int | float | bool | str | tuple[str, ...]
USUAL_CONTEXT = 8192  # the cache of keys and values grows with it; Ollama's own default is 4096 on most machines
WHOLE_NUMBERS: Mapping[str, float] = {  # and the least that means something
    **{"num_ctx": 1, "num_keep": -1, "num_predict": -2, "num_batch": 1, "num_gpu": -1, "main_gpu": 0, "num_thread": 0},
    **{"seed": -math.inf, "top_k": 0, "repeat_last_n": -1, "draft_num_predict": 0},
}
NUMBERS: Mapping[str, float] = {
    **{"temperature": 0, "top_p": 0, "min_p": 0, "typical_p": 0, "repeat_penalty": 0},
    **{"presence_penalty": -math.inf, "frequency_penalty": -math.inf},
}
KNOWN_PARAMETERS = (*WHOLE_NUMBERS, *NUMBERS, "use_mmap", "stop")
NAME = re.compile(r"([a-zA-Z0-9_][\w-]{0,79}/)?[a-zA-Z0-9_][\w.-]{0,79}(:[a-zA-Z0-9_][\w.-]{0,79})?", re.ASCII)
PAYLOAD = "ollama.json"
MODELFILE = "Modelfile"


def _is_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(
            "an Ollama name is made of letters, digits, '_', '-' and, behind the '/', '.': `voice` or `me/voice:v2`"
        )
    return name


def _is_address(host: str) -> str:
    try:
        Server.at(host)
    except RuntimeFault as error:
        raise ValueError(error.faults[0].what) from None
    return host


def _are_known(parameters: Mapping[str, Value]) -> Mapping[str, Value]:
    for name, value in parameters.items():
        if name not in KNOWN_PARAMETERS:
            raise ValueError(f"Ollama has no parameter {name!r}; {rooms.did_you_mean(name, KNOWN_PARAMETERS)}")
        wanted = _wanted(name, value)
        if wanted:
            raise ValueError(f"Ollama's {name} is {wanted}, not {value!r}")
    return parameters


def _wanted(name: str, value: Value) -> str:
    """What a parameter has to be where this value is not that; else empty."""
    if name == "stop":
        return "" if isinstance(value, str | tuple) else "a text or a list of texts"
    if name == "use_mmap":
        return "" if isinstance(value, bool) else "true or false"
    is_number = isinstance(value, int if name in WHOLE_NUMBERS else int | float) and not isinstance(value, bool)
    least = {**WHOLE_NUMBERS, **NUMBERS}[name]
    if is_number and math.isfinite(value) and value >= least:  # type: ignore[arg-type,operator]
        return ""
    kind = "a whole number" if name in WHOLE_NUMBERS else "a number"
    return kind + (f" of {least} or more" if math.isfinite(least) else "")


class Ollama(Part):
    """The model in Ollama, made from the GGUF, with the prompt as in training; and a Modelfile that says the same."""

    kind: ClassVar[str] = "ollama"
    needs: ClassVar[tuple[str, ...]] = ("gguf",)
    runtimes: ClassVar[tuple[str, ...]] = ("ollama",)

    name: Annotated[str, AfterValidator(_is_name)] | None = None
    """Name in Ollama, as in `ollama run NAME`; tunesmith- and the run's name when left out."""
    type: Type | Auto = "auto"
    """Which GGUF: f32, f16, bf16 or q8_0; auto: q8_0 where it was made, else the first that was."""
    num_ctx: PositiveInt | Auto = "auto"
    """Tokens of prompt and answer together; auto: the model's context, at most 8192."""
    parameters: Annotated[Mapping[str, Value], AfterValidator(_are_known)] = {}
    """Ollama parameters that take the place of the derived ones, such as temperature: 0."""
    host: Annotated[str, AfterValidator(_is_address)] | None = None
    """Address of the server; the environment's OLLAMA_HOST, else this machine's, when left out."""
    create: bool = True
    """Whether the model is made in a running Ollama now; when not, `check` and `chat` make it when they need it."""

    def refuse(self, facts: BaseFacts, machine: Machine) -> list[Fault]:
        """Nothing of its own: what Ollama cannot take, GGUF refuses. A server that is not there yet is no refusal."""
        return []

    def refuse_beside(self, needed: Mapping[str, Any]) -> list[Fault]:
        """A GGUF type that is asked for here and not made there."""
        types = needed["gguf"].types
        return [] if self.type in ("auto", *types) else [_no_such_type(self.type, types)]

    def disk_bytes(self, facts: BaseFacts) -> int:
        """The two text files here; and Ollama's own copies, as sent and as it writes them anew."""
        weight = {"f32": 4.0, "f16": 2.0, "bf16": 2.0}.get(self.type, 34 / 32)
        return (1 << 20) + (int(2 * 1.1 * weight * facts.n_parameters) if self.create else 0)

    def write(self, model: Model, made: Mapping[str, Export], into: Path) -> Export:
        """`ollama.json` (the body for `/api/create`) and `Modelfile`; and the model itself where a server answers.

        Raises:
            ExportError: `export/no-such-type`, or what the server said.
        """
        gguf = self._chosen(made["gguf"])
        text = Text.read(model.folder)
        derived = _prompt(text, model.raw_text)
        server = _server(self.host)
        payload = self._payload(model, gguf, text, derived, server)
        files.write_json(into / PAYLOAD, payload)
        twin = _modelfile.modelfile(_seen_from(into, gguf.path), payload)
        if twin is None:
            say.note(f"no Modelfile: its quotes cannot hold this prompt. {PAYLOAD} holds it")
        else:
            files.write_text(into / MODELFILE, twin)
        version = server.version() if self.create else ""
        about: dict[str, Any] = {
            "model": payload["model"],
            "host": self.host or "",
            "prompt": "template" if derived.template else "jinja",
            "why": derived.why_not,
            "modelfile": twin is not None,
        }
        _say_which_prompt(derived, version)
        about["created"] = bool(version) and _create(server, payload, gguf.path)
        about["run"] = f"ollama run {payload['model']}"
        if not about["created"]:
            about["get"] = _how_to_create(payload["model"], into, twin is not None)
            say.note(f"Ollama was not asked: {about['get']}" if not self.create else _not_there(server, about["get"]))
        return Export(self.kind, into, {gguf.name: _variant(gguf, into)}, about)

    def _chosen(self, made: Export) -> Variant:
        wanted = self.type if self.type != "auto" else "q8_0" if "q8_0" in made.variants else next(iter(made.variants))
        if wanted not in made.variants:
            raise ExportError(_no_such_type(wanted, made.variants))
        return made.variants[wanted]

    def put_again(self, export: Export) -> Export:
        """A kept export whose model is no longer in the server, or was not made there yet, is made there now.

        Raises:
            ExportError: what the server said.
        """
        server = _server(self.host)
        if not self.create or not server.version():
            return export
        (variant,) = export.variants.values()
        payload = json.loads(variant.path.read_text(encoding="utf-8"))
        _create(server, payload, (export.folder / variant.about["gguf"]).resolve())
        return replace(export, about={**{k: v for k, v in export.about.items() if k != "get"}, "created": True})

    def _payload(
        self, model: Model, gguf: Variant, text: Text, derived: _turns.Derived, server: Server
    ) -> dict[str, Any]:
        payload: dict[str, Any] = {
            "model": self.name or _free_name(server, _name(model.folder), gguf.path),
            "files": {gguf.path.name: digest_of(gguf.path)},
        }
        if derived.template:
            payload["template"] = derived.template
        needed = SUPPRESSES if text.never else () if derived.template else (*NATIVE_JINJA, 0)
        if needed:
            payload["requires"] = ".".join(str(one) for one in needed)
        if derived.system:
            payload["system"] = derived.system
        payload["parameters"] = {**self._parameters(model.folder), **_plain(self.parameters)}
        return payload

    def _parameters(self, folder: Path) -> dict[str, Any]:
        """Each is said, since Ollama's own defaults change with its version and the machine."""
        told = _sampling(folder)
        context = BaseFacts.read(folder).context
        return {
            "num_ctx": min(context, USUAL_CONTEXT) if self.num_ctx == "auto" else self.num_ctx,
            "temperature": told.get("temperature", 0.7),
            "top_k": told.get("top_k", 40),
            "top_p": told.get("top_p", 0.9),
            "repeat_penalty": told.get("repetition_penalty", 1.0),
        }


def _prompt(text: Text, raw_text: bool) -> _turns.Derived:
    if raw_text or not text.has_template:
        return _turns.Derived(text.lead + "{{ .Prompt }}")
    first, _ = _conversion.added_ends(text, raw_text)
    return _turns.derive(text, bos_is_added=first)


def _sampling(folder: Path) -> Mapping[str, Any]:
    """How the base's makers sample, from generation_config.json; the usual values where they do not say."""
    try:
        told = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    names = ("temperature", "top_k", "top_p") if told.get("do_sample") else ()
    return {name: told[name] for name in (*names, "repetition_penalty") if told.get(name) is not None}


def _plain(parameters: Mapping[str, Value]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in parameters.items()}


def _name(folder: Path) -> str:
    """`tunesmith-` and the run's name for `runs/NAME/model`, else the folder's, in the letters Ollama allows."""
    whole = folder.resolve()
    word = whole.parent.name if whole.name == "model" else whole.name
    plain = re.sub(r"[^a-z0-9_.-]+", "-", word.lower()).strip("-.")
    lost = "" if plain.isascii() and len(plain) == len(word) else f"-{files.sha256_of(word)[:6]}"
    return f"tunesmith-{(plain or 'model')[:60]}{lost}"


def _free_name(server: Server, name: str, weights: Path) -> str:
    """The name, with a few letters more where the model of another run, or of someone else, has it."""
    try:
        return name if server.is_free(name, weights) else f"{name}-{files.sha256_of(owner_of(weights))[:6]}"
    except RuntimeFault:
        return name  # creating it will say what is wrong with the server


def _no_such_type(wanted: str, made: Iterable[str]) -> Fault:
    return Fault(
        "export/no-such-type",
        f"there is no GGUF of type {wanted}: {', '.join(made)}",
        fix=f"add {wanted} to the types of the gguf export, or choose one of those for ollama",
        key="export.ollama.type",
    )


def _server(host: str | None) -> Server:
    try:
        return Server.at(host)
    except RuntimeFault as error:
        raise ExportError(error.faults) from None


def _seen_from(folder: Path, path: Path) -> str:
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


def _create(server: Server, payload: Mapping[str, Any], weights: Path) -> bool:
    try:
        server.create(payload, weights)
    except RuntimeFault as error:
        if error.faults[0].code == "runtime/ollama-name-taken":
            raise ExportError(error.faults) from None
        fix = "see the log of `ollama serve`, or set create: false to write the files alone"
        raise ExportError(Fault("export/ollama-refused", error.faults[0].what, fix, place=server.address)) from None
    return True


def _variant(gguf: Variant, into: Path) -> Variant:
    # Ollama keeps keys and values in float16 whatever the weights are: float32 weights answer as float16 ones do.
    precision: Precision = "float16" if gguf.precision == "float32" else gguf.precision
    about = {"gguf": _seen_from(into, gguf.path), "note": gguf.about.get("note", "")}
    return Variant(gguf.name, into / PAYLOAD, gguf.n_bytes, precision, gguf.label, about)


def _say_which_prompt(derived: _turns.Derived, version: str) -> None:
    if derived.template:
        return
    say.note(f"Ollama renders with the GGUF's own chat template, as a TEMPLATE cannot say it: {derived.why_not}")
    if is_known_older(version, NATIVE_JINJA):
        say.warn(f"Ollama {version} cannot do that and would send the bare question; update it to 0.30 or newer")


def _how_to_create(name: str, into: Path, has_modelfile: bool) -> str:
    if has_modelfile:
        return f"ollama create {name} -f {into.parent / 'ollama' / MODELFILE}"
    return "start Ollama, then: tunesmith check"


def _not_there(server: Server, then: str) -> str:
    return f"no Ollama answers at {server.address}; {get()}; then make the model with: {then}"
