from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunesmith.artifact import MANIFEST, Export, Manifest, Model, Run, Variant, read_manifest, seal
from tunesmith.errors import ArtifactError


def sealed(folder: Path) -> Manifest:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.bin").write_bytes(b"12345")
    (folder / "sub").mkdir(exist_ok=True)
    (folder / "sub" / "b.bin").write_bytes(b"1")
    (folder / ".lock").write_bytes(b"")
    return seal(folder, Manifest("gguf", {"model": "x"}, {"types": ["f16"]}, {"note": 1}))


def test_a_sealed_folder_reads_back_the_same(tmp_path: Path) -> None:
    manifest = sealed(tmp_path)
    assert read_manifest(tmp_path) == manifest
    assert manifest.files == {"a.bin": 5, "sub/b.bin": 1}
    assert manifest.version


def test_present_means_done_and_anything_less_is_not(tmp_path: Path) -> None:
    assert read_manifest(tmp_path / "nowhere") is None
    sealed(tmp_path)
    (tmp_path / "a.bin").write_bytes(b"1234")
    assert read_manifest(tmp_path) is None
    sealed(tmp_path)
    (tmp_path / "sub" / "b.bin").unlink()
    assert read_manifest(tmp_path) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "{}",
        '{"kind": "x"}',
        '{"kind": "x", "parents": 1, "options": {}}',
        '{"kind": "x", "parents": {}, "options": {}, "files": [1]}',
        '{"kind": "x", "parents": {}, "options": {}, "files": {"../../etc/passwd": 1}}',
        "\ufffd",
    ],
)
def test_a_manifest_that_is_damaged_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_text(text, encoding="utf-8")
    assert read_manifest(tmp_path) is None


def test_keys_of_a_later_version_are_passed_over(tmp_path: Path) -> None:
    manifest = sealed(tmp_path)
    tree = json.loads((tmp_path / MANIFEST).read_text())
    (tmp_path / MANIFEST).write_text(json.dumps({**tree, "later": 1}))
    assert read_manifest(tmp_path) == manifest


def test_identity_follows_kind_parents_and_options_alone() -> None:
    plain = Manifest("gguf", {"model": "x"}, {"a": 1})
    assert plain.identity == Manifest("gguf", {"model": "x"}, {"a": 1}, {"about": 2}, {"f": 3}, "9").identity
    others = [
        Manifest("web", {"model": "x"}, {"a": 1}),
        Manifest("gguf", {"model": "y"}, {"a": 1}),
        Manifest("gguf", {"model": "x"}, {"a": 2}),
    ]
    assert len({plain.identity, *(one.identity for one in others)}) == 4


def test_an_export_opens_as_it_was_written(tmp_path: Path) -> None:
    folder = tmp_path / "gguf"
    folder.mkdir()
    (folder / "m.gguf").write_bytes(b"GGUF")
    variant = Variant("f16", folder / "m.gguf", 4, "float16", "exact", {"x": 1})
    written = Export("gguf", folder, {"f16": variant}, {"name": "m"})
    seal(folder, Manifest("gguf", {}, {}, written.about_tree()))
    assert Export.open(folder) == written


def test_an_export_whose_manifest_names_no_variants_is_not_done(tmp_path: Path) -> None:
    sealed(tmp_path)
    assert Export.open(tmp_path) is None
    assert Export.open(tmp_path / "nowhere") is None


def test_a_model_is_a_config_with_weights_and_its_identity_follows_both(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="artifact/not-a-model"):
        Model.of(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ArtifactError, match="artifact/not-a-model"):
        Model.of(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"w")
    first = Model.of(tmp_path).identity
    (tmp_path / "README.md").write_text("words")
    assert Model.of(tmp_path).identity == first
    (tmp_path / "chat_template.jinja").write_text("x")
    second = Model.of(tmp_path).identity
    (tmp_path / "model.safetensors").write_bytes(b"v")
    assert len({first, second, Model.of(tmp_path).identity}) == 3


def test_a_run_knows_its_parts(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert (run.manifest, run.adapter, dict(run.exports)) == (None, None, {})
    (tmp_path / "adapter").mkdir()
    sealed(run.export_folder("gguf"))
    assert run.adapter == tmp_path / "adapter"
    assert dict(run.exports) == {}  # its manifest names no variants
