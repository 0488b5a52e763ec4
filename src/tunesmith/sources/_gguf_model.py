"""A GGUF as a Hugging Face folder: its tensors dequantised by transformers, its words as llama.cpp cuts them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tunesmith import files, say
from tunesmith.errors import Fault, SourceError
from tunesmith.sources import _cache, _gguf_header
from tunesmith.sources._gguf_header import Header
from tunesmith.text import pretokenizer
from tunesmith.weights.facts import BaseFacts


def facts(file: Path, base: str) -> BaseFacts:
    """What the header says, kept in the cache as config and tokenizer files.

    Raises:
        SourceError: the file is not there, not GGUF, in parts, or of an architecture that transformers cannot read.
    """
    header = _gguf_header.read(file, base)
    whole, words = _kept(file)
    if whole.is_dir():
        return BaseFacts.read(whole, base)
    with _cache.once(words) as beside:
        if beside is not None:
            with _translated(file, base), say.progress("read the header", None, ""):
                _save_words(file, header, beside, base)
    return BaseFacts.read(words, base)


def dequantised(file: Path, base: str) -> Path:
    """A folder with config, tokenizer, chat template and safetensors, made once for a file's content.

    Quantised and bfloat16 tensors are kept as bfloat16; float16 and float32 ones as they are.

    Raises:
        SourceError: as `facts`.
    """
    header = _gguf_header.read(file, base)
    whole, _ = _kept(file)
    with _cache.once(whole) as beside:
        if beside is not None:
            with _translated(file, base):
                _save_words(file, header, beside, base)
                with _counted(header.n_tensors):
                    _save_weights(file, header, beside)
    return whole


def _kept(file: Path) -> tuple[Path, Path]:
    with say.progress("hash", None, ""):
        name = files.sha256(file)[:32]
    return _cache.cache("gguf") / name, _cache.cache("gguf") / f"{name}-words"


def _save_words(file: Path, header: Header, into: Path, base: str) -> None:
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    rule = _rule(header, base)
    config = AutoConfig.from_pretrained(file.parent, gguf_file=file.name, trust_remote_code=False)
    config.__dict__.pop("quantization_config", None)
    config.architectures = [_causal_class(config.model_type)]
    config.save_pretrained(into)
    words = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, trust_remote_code=False)
    words.chat_template = header.chat_template
    words.save_pretrained(into)
    ends = list(header.end_ids)
    GenerationConfig(
        bos_token_id=header.bos_id,
        eos_token_id=ends[0] if len(ends) == 1 else ends or None,
        pad_token_id=words.pad_token_id,
    ).save_pretrained(into)
    if rule is not None:
        _mend_tokenizer(into / "tokenizer.json", rule, header)


def _causal_class(kind: str) -> str:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    found = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[kind]
    return str(found if isinstance(found, str) else found[0])


def _rule(header: Header, base: str) -> pretokenizer.Cut | None:
    """How a byte-level BPE cuts its text; None for other tokenizers, which have no such rule."""
    if header.tokenizer != "gpt2":
        return None
    rule = pretokenizer.rule_of(header.cut)
    if rule is None:
        raise SourceError(
            Fault(
                "source/unknown-tokenizer",
                f"the file's tokenizer cuts text by the rule {header.cut!r}, which is not known here",
                fix="use the Hugging Face model that this file was made from",
                file=base,
                key="tokenizer.ggml.pre",
            )
        )
    return rule


def _mend_tokenizer(file: Path, rule: pretokenizer.Cut, header: Header) -> None:
    """Transformers reads no cutting rule from a GGUF, and not always whether BOS is added: both are written here."""
    tree = json.loads(file.read_text(encoding="utf-8"))
    tree["pre_tokenizer"] = pretokenizer.as_json(rule)
    tree["model"]["ignore_merges"] = rule.ignore_merges
    tree["post_processor"] = _template(header.bos_id if header.adds_bos else None, header)
    files.write_text(file, json.dumps(tree, ensure_ascii=False))


def _template(bos_id: int | None, header: Header) -> dict[str, Any]:
    """The `post_processor` that puts BOS first, or puts nothing."""
    text = [{"Sequence": {"id": "A", "type_id": 0}}]
    pair = [*text, {"Sequence": {"id": "B", "type_id": 1}}]
    if bos_id is None:
        return {"type": "TemplateProcessing", "single": text, "pair": pair, "special_tokens": {}}
    name = header.token(bos_id)
    first: dict[str, Any] = {"SpecialToken": {"id": name, "type_id": 0}}
    special = {name: {"id": name, "ids": [bos_id], "tokens": [name]}}
    return {"type": "TemplateProcessing", "single": [first, *text], "pair": [first, *pair], "special_tokens": special}


def _save_weights(file: Path, header: Header, into: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    dtype = getattr(torch, header.dtype)
    read = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=dtype, trust_remote_code=False)
    weights: Mapping[str, torch.Tensor] = read.state_dict()
    # What was read from a GGUF refuses to be saved; the same tensors in a plain model do not.
    config = AutoConfig.from_pretrained(into, trust_remote_code=False)
    with torch.device("meta"):
        plain = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
    plain.load_state_dict(weights, assign=True)
    plain.tie_weights()
    generation = (into / "generation_config.json").read_text(encoding="utf-8")
    plain.save_pretrained(into)
    files.write_text(into / "generation_config.json", generation)


@contextmanager
def _counted(n_tensors: int) -> Iterator[None]:
    """Progress in tensors: transformers counts them with a bar of its own, which cannot be turned off from outside."""
    from transformers import modeling_gguf_pytorch_utils as reading

    theirs = getattr(reading, "tqdm", None)
    with say.progress("dequantise", n_tensors, "tensors") as bar:

        def counted(tensors: Iterable[Any], **_: Any) -> Iterator[Any]:
            for tensor in tensors:
                yield tensor
                bar.advance(1)

        reading.tqdm = counted  # type: ignore[attr-defined]
        try:
            yield
        finally:
            reading.tqdm = theirs  # type: ignore[attr-defined]


@contextmanager
def _translated(file: Path, base: str) -> Iterator[None]:
    """Transformers' failures in this project's words, and its bars and warnings kept to itself."""
    from transformers.utils import logging as talk

    level = talk.get_verbosity()
    bars = talk.is_progress_bar_enabled()
    talk.set_verbosity(logging.ERROR)
    talk.disable_progress_bar()
    try:
        yield
    except ImportError as error:
        raise SourceError(
            Fault(
                "source/no-gguf-reader",
                f"reading GGUF needs a package: {error.name or error}",
                fix="pip install 'tunesmith[gguf]'",
            )
        ) from None
    except (ValueError, KeyError, NotImplementedError, RuntimeError) as error:
        said = " ".join(str(error).split())[:300]
        raise SourceError(
            Fault(
                "source/unreadable-gguf",
                f"transformers cannot read this model from GGUF: {said}",
                fix="use the Hugging Face model that this file was made from",
                file=base,
            )
        ) from None
    finally:
        talk.set_verbosity(level)
        if bars:
            talk.enable_progress_bar()
