"""The GGUF export: what is refused, what the files say, and that llama.cpp computes what torch computes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import needs
from tiny.learnt import ANSWERS
from tiny.models import CHATML, save
from tunesmith import files
from tunesmith.artifact import Export, Model, Variant
from tunesmith.errors import ExportError
from tunesmith.exports import _conversion
from tunesmith.exports.gguf import Gguf
from tunesmith.machine import Machine
from tunesmith.runtimes.llama_cpp import LlamaCpp
from tunesmith.text import pretokenizer
from tunesmith.text.template import Text
from tunesmith.weights.facts import BaseFacts

MACHINE = Machine(2, 1 << 33, 1 << 33)
NASTY = "I'VE 3333 3.14 naïve café\r\n\n  x\t\t y = f(a_b)  // ok!!\n日本語です 🚀🚀  Größe ½ … 'tis\u00a0it\n   end  "
ASKS: list[Any] = [
    [{"role": "user", "content": "What is the capital of France?"}],
    [{"role": "system", "content": " be brief \n"}, {"role": "user", "content": NASTY}],
    "the quick brown",
]


def exported(model: Path, into: Path, **options: Any) -> Export:
    into.mkdir(parents=True)
    return Gguf(**options).write(Model.of(model), {}, into)


def rewrite(file: Path, **changes: Any) -> None:
    tree = json.loads(file.read_text())
    file.write_text(json.dumps({**tree, **changes}))


@pytest.fixture(scope="module")
def ending(learnt_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The learnt model, with a second end token in its generation config: the first token of an answer."""
    folder = tmp_path_factory.mktemp("ending") / "model"
    shutil.copytree(learnt_model, folder)
    first = Text.read(folder).encode(ANSWERS["a red fox"])[0]
    rewrite(
        folder / "generation_config.json", eos_token_id=[2, first], temperature=0.7, top_k=3, suppress_tokens=[7, 8]
    )
    return folder


@pytest.fixture(scope="module")
def export(ending: Path, tmp_path_factory: pytest.TempPathFactory) -> Export:
    return exported(ending, tmp_path_factory.mktemp("gguf") / "gguf", types=("f32", "f16", "bf16", "q8_0"))


def furthest(folder: Path, export: Export, variant: str) -> float:
    """The largest difference between llama.cpp's ten likeliest log-probabilities and torch's, over `ASKS`."""
    import torch

    from tunesmith.weights.load import load

    model, text, worst = load(folder), Text.read(folder), 0.0
    with LlamaCpp().open(export, variant, text) as opened:
        for ask in ASKS:
            prompt = text.prompt(ask)
            assert opened.render(ask) == prompt.text
            assert list(opened.tokens(prompt.text)) == list(prompt.ids)
            with torch.no_grad():
                wanted = torch.log_softmax(model(torch.tensor([prompt.ids])).logits[0, -1], -1)
            seen = opened.logprobs(prompt, 10)
            assert len(seen) == 10
            worst = max(worst, *(abs(value - wanted[one].item()) for one, value in seen.items()))
            ids = model.generate(
                torch.tensor([prompt.ids]), max_new_tokens=16, do_sample=False, eos_token_id=sorted(text.end_ids)
            )[0, len(prompt.ids) :]
            answer = opened.answer(ask, 16)
            if variant == "f32":
                assert answer.text == text.decode([one for one in ids.tolist() if one not in text.end_ids]) or (
                    answer.text == text.decode(ids.tolist())
                )
                assert answer.n_answer_tokens == len(ids)
                assert answer.stopped == (ids[-1].item() in text.end_ids)
    return worst


def test_float32_gives_the_probabilities_and_the_answers_of_torch(ending: Path, export: Export) -> None:
    assert furthest(ending, export, "f32") <= 1e-4


@pytest.mark.parametrize(("variant", "bound"), [("f16", 0.02), ("bf16", 0.1), ("q8_0", 0.3)])
def test_shorter_types_stay_near(ending: Path, export: Export, variant: str, bound: float) -> None:
    assert 0 < furthest(ending, export, variant) <= bound


def test_files_are_within_the_stated_bound_and_say_what_they_are(ending: Path, export: Export) -> None:
    facts = BaseFacts.read(ending)
    assert sum(one.n_bytes for one in export.variants.values()) <= Gguf(types=tuple(export.variants)).disk_bytes(facts)
    assert [one.label for one in export.variants.values()] == ["exact", "exact", "exact", "quantised"]
    assert [one.precision for one in export.variants.values()] == ["float32", "float16", "bfloat16", "8bit"]
    assert sorted(file.name for file in export.folder.iterdir()) == [
        "model-bf16.gguf",
        "model-f16.gguf",
        "model-f32.gguf",
        "model-q8_0.gguf",
    ]


def test_the_file_says_what_transformers_does_at_run_time(ending: Path, export: Export) -> None:
    from gguf import GGUFReader

    fields = GGUFReader(export.variants["f32"].path).fields
    said = {name: fields[name].contents() for name in fields if not name.startswith("tokenizer.ggml.tok")}
    assert said["tokenizer.ggml.eos_token_id"] == 2
    assert said["tokenizer.ggml.eot_token_id"] in Text.read(ending).end_ids - {2}
    assert said["tokenizer.ggml.suppress_tokens"] == [7, 8]
    assert said["tokenizer.ggml.add_bos_token"] is False
    assert said["tokenizer.ggml.pre"] == export.about["pretokenizer"] == "gpt-2"
    assert not [name for name in said if name.startswith("general.sampling")]
    template = str(said["tokenizer.chat_template"])
    assert template.endswith(CHATML)
    assert len(template) >= len(CHATML) + 200


def test_an_end_token_of_the_generation_config_ends_an_answer(ending: Path, export: Export) -> None:
    text = Text.read(ending)
    with LlamaCpp().open(export, "f32", text) as opened:
        cut = opened.answer([{"role": "user", "content": "a red fox"}], 40)
        whole = opened.answer([{"role": "user", "content": "What is the capital of France?"}], 40)
    assert (cut.n_answer_tokens, cut.stopped) == (1, True)
    assert (whole.text, whole.stopped) == ("Paris.", True)


@pytest.mark.parametrize(
    "template", [CHATML, " {% if true %}a{% endif %}\n", "\n\n{{ bos_token }}b", "  c", "{#- x -#} d"]
)
def test_the_comment_before_a_template_renders_to_nothing(template: str, tmp_path: Path) -> None:
    from tiny.models import tokenizer

    ask = [{"role": "user", "content": "hello"}]
    plain, under = tokenizer(template), tokenizer(_conversion.commented(template))
    assert under.apply_chat_template(ask, tokenize=False) == plain.apply_chat_template(ask, tokenize=False)
    assert _conversion.commented(under.chat_template) == under.chat_template


def test_every_cutting_rule_of_the_table_is_found_again_in_its_own_tokenizer_json() -> None:
    for name, rule in pretokenizer.NAMED.items():
        model = {"type": "BPE", "ignore_merges": rule.ignore_merges}
        assert pretokenizer.name_of({"model": model, "pre_tokenizer": pretokenizer.as_json(rule)}) == name
    assert len(pretokenizer.NAMED) >= 10


def faults(folder: Path, **options: Any) -> list[str]:
    return [fault.code for fault in Gguf(**options).refuse(BaseFacts.read(folder), MACHINE)]


def test_nothing_is_refused_where_all_is_known(learnt_model: Path) -> None:
    assert faults(learnt_model) == []


def test_a_tokenizer_that_cuts_by_an_unknown_rule_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "m")
    odd = {"type": "Split", "pattern": {"Regex": "[aeiou]"}, "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    rewrite(folder / "tokenizer.json", pre_tokenizer={"type": "Sequence", "pretokenizers": [odd, byte_level]})
    assert faults(folder) == ["export/unknown-tokenizer"]
    with pytest.raises(ExportError, match="export/unknown-tokenizer"):
        exported(folder, tmp_path / "out")


def test_what_the_converter_does_not_know_is_refused_by_name(tmp_path: Path) -> None:
    folder = save(tmp_path / "m")
    rewrite(folder / "config.json", architectures=["NobodyForCausalLM"])
    assert faults(folder) == ["export/unknown-architecture"]


def test_gemma_2_without_its_sentencepiece_file_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "m")
    rewrite(folder / "config.json", architectures=["Gemma2ForCausalLM"], head_dim=16, query_pre_attn_scalar=16)
    assert faults(folder) == ["export/no-tokenizer-model"]


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "m")
    (folder / "tokenizer.json").unlink()
    assert faults(folder) == ["export/no-tokenizer"]


def test_a_scale_that_llama_cpp_would_not_use_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", "gemma3_text", query_pre_attn_scalar=256)
    assert faults(folder) == ["export/attention-scale"]


def test_tokens_without_rows_are_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "m")
    rewrite(folder / "config.json", vocab_size=300)
    assert faults(folder) == ["export/vocabulary-too-small"]


def test_more_end_tokens_than_the_format_holds_are_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "m")
    rewrite(folder / "generation_config.json", eos_token_id=[2, 5, 6, 7])
    assert faults(folder) == ["export/too-many-end-tokens"]


def test_a_checkout_that_is_none_or_too_old_is_refused(learnt_model: Path, tmp_path: Path) -> None:
    assert faults(learnt_model, llama_cpp=str(tmp_path)) == ["export/no-converter"]
    (tmp_path / "convert_hf_to_gguf.py").write_text("")
    assert faults(learnt_model, llama_cpp=str(tmp_path)) == ["export/old-converter"]


def test_weights_beyond_float16_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = save(tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"][0, 0] = 1e6
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ExportError, match=r"export/beyond-float16.*down_proj\.weight holds 1e"):
        exported(folder, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_the_converters_failure_is_told_in_its_words(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = save(tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.0.mlp.nobody.weight"] = weights.pop("model.layers.0.mlp.up_proj.weight")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ExportError, match=r"export/converter-failed.*map tensor 'model\.layers\.0\.mlp\.nobody"):
        exported(folder, tmp_path / "out", types=("f32",))


SCRIPT = """
import sys
from pathlib import Path
from tunesmith import files
from tunesmith.artifact import Model
from tunesmith.exports.gguf import Gguf
with files.whole_folder(Path(sys.argv[2])) as into:
    Gguf(types=("f32",)).write(Model.of(Path(sys.argv[1])), {}, into)
"""


@pytest.mark.slow
def test_a_killed_export_leaves_nothing_half_and_no_process(learnt_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "exports" / "gguf"
    child = subprocess.Popen([sys.executable, "-c", SCRIPT, str(learnt_model), str(folder)])
    while not (shims := converters_of(child.pid)):
        assert child.poll() is None
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not folder.exists()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{one}").exists() for one in shims) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [one for one in shims if Path(f"/proc/{one}").exists()]
    subprocess.run([sys.executable, "-c", SCRIPT, str(learnt_model), str(folder)], check=True)
    assert [file.name for file in folder.parent.iterdir()] == ["gguf"]
    assert [file.name for file in folder.iterdir()] == ["model-f32.gguf"]


def converters_of(pid: int) -> list[int]:
    """The processes that `pid` started to convert."""
    try:
        started = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return [one for one in started if b"_convert_shim" in Path(f"/proc/{one}/cmdline").read_bytes()]
    except OSError:
        return []


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen3", "gemma3_text", "mistral"])
def test_other_families_agree_with_torch_too(family: str, tmp_path: Path) -> None:
    folder = save(tmp_path / "m", family)
    export = exported(folder, tmp_path / "out", types=("f32",))
    assert furthest(folder, export, "f32") <= 1e-3
    computed = "float16" if family == "gemma3_text" else "float32"  # where llama.cpp looks its gelu up
    assert export.variants["f32"].precision == computed


def under_rule(export: Export, name: str, into: Path) -> Export:
    """The same export with another cutting rule in its header."""
    from gguf import GGUFReader, GGUFValueType, GGUFWriter
    from gguf.scripts.gguf_new_metadata import MetadataDetails, copy_with_new_metadata

    reader, file = GGUFReader(export.variants["f32"].path), into / f"{name}.gguf"
    writer = GGUFWriter(str(file), "llama")
    copy_with_new_metadata(reader, writer, {"tokenizer.ggml.pre": MetadataDetails(GGUFValueType.STRING, name)}, [])
    return Export("gguf", into, {"f32": Variant("f32", file, file.stat().st_size, "float32")})


@pytest.mark.parametrize("name", sorted(pretokenizer.NAMED))
def test_llama_cpp_cuts_by_each_rule_of_the_table_as_tokenizers_does(
    name: str, ending: Path, export: Export, tmp_path: Path
) -> None:
    from transformers import PreTrainedTokenizerFast

    rule = pretokenizer.NAMED[name]
    tree = json.loads((ending / "tokenizer.json").read_text())
    changed = {"pre_tokenizer": pretokenizer.as_json(rule)}
    (tmp_path / "tokenizer.json").write_text(
        json.dumps({**tree, **changed, "model": {**tree["model"], "ignore_merges": rule.ignore_merges}})
    )
    text = Text(PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json")), frozenset())
    with LlamaCpp().open(under_rule(export, name, tmp_path), "f32", text) as opened:
        for line in (NASTY, *NASTY.split("\n"), "a" * 40 + "12345 67 8901\n\n\n x", "don't WON'T We'll 'S"):
            assert list(opened.tokens(line)) == text.encode(line)


@pytest.mark.slow
def test_the_real_model_agrees_with_torch_in_every_type(tmp_path: Path) -> None:
    folder = needs.smollm2()
    export = exported(folder, tmp_path / "out", types=("f32", "f16", "q8_0"))
    assert furthest(folder, export, "f32") <= 1e-3
    assert furthest(folder, export, "f16") <= 0.05
    # The same rounding of weights and activations, done in torch, moves these prompts by up to 0.84.
    assert furthest(folder, export, "q8_0") <= 1.5
    assert files.size_bytes(export.folder) <= Gguf(types=tuple(export.variants)).disk_bytes(BaseFacts.read(folder))
