"""Tuned models with weights of their own: complete directories, which share their bytes and not their fate."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from tunesmith.models.adapters import MANIFEST_FILE, AdapterManifest, read_manifest, write_adapter
from tunesmith.models.tuned import BASE_DIR, link_base, link_files, own_base, write_model

MANIFEST = AdapterManifest("tiny", "0" * 16, "r", 0, 0.0, (), step=3, adapter="none")


@pytest.fixture
def written(tiny_model: LlamaForCausalLM, tiny_dir: Path, tmp_path: Path) -> Path:
    (tiny_dir / "config.json").write_text(
        json.dumps({**json.loads((tiny_dir / "config.json").read_text()), "torch_dtype": "bfloat16", "ours": 1})
    )
    directory = tmp_path / "tuned"
    write_model(directory, tiny_model, tiny_dir, MANIFEST)
    return directory


def test_a_written_model_loads_as_it_was_with_the_bases_own_files(
    written: Path, tiny_dir: Path, tiny_model: LlamaForCausalLM
) -> None:
    loaded = AutoModelForCausalLM.from_pretrained(written)
    for name, parameter in tiny_model.named_parameters():
        assert torch.equal(loaded.get_parameter(name), parameter), name
    config = json.loads((written / "config.json").read_text())
    assert (config["dtype"], config["ours"]) == ("float32", 1)
    assert "torch_dtype" not in config
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (written / name).read_text() == (tiny_dir / name).read_text()
    assert not (written / "README.md").exists()


def test_the_manifest_has_the_digest_of_the_weights(
    written: Path, tiny_model: LlamaForCausalLM, tiny_dir: Path, tmp_path: Path
) -> None:
    digest = read_manifest(written).sha256
    assert len(digest) == 64
    with torch.no_grad():
        tiny_model.lm_head.weight[0, 0] += 1
    write_model(tmp_path / "other", tiny_model, tiny_dir, MANIFEST)
    assert read_manifest(tmp_path / "other").sha256 != digest
    assert read_manifest(written).step == 3


def test_links_share_their_bytes_and_outlive_the_original(written: Path, tmp_path: Path) -> None:
    target = tmp_path / "linked"
    link_files(written, target)
    assert {path.name for path in target.iterdir()} == {path.name for path in written.iterdir()}
    weights = target / "model.safetensors"
    assert weights.stat().st_ino == (written / "model.safetensors").stat().st_ino
    expected = weights.read_bytes()
    shutil.rmtree(written)
    assert weights.read_bytes() == expected
    assert read_manifest(target).step == 3


def test_linking_again_replaces_what_was_there(written: Path, tmp_path: Path) -> None:
    target = tmp_path / "linked"
    link_files(written, target)
    (written / MANIFEST_FILE).unlink()  # of another file now: a link to the old one would show the old text
    (written / MANIFEST_FILE).write_text("{}")
    link_files(written, target)
    assert (target / MANIFEST_FILE).read_text() == "{}"


def test_without_hard_links_the_bytes_are_copied(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("this file system has no links")

    monkeypatch.setattr(os, "link", refuse)
    link_files(written, tmp_path / "copied")
    original, copy = written / "model.safetensors", tmp_path / "copied" / "model.safetensors"
    assert copy.read_bytes() == original.read_bytes()
    assert copy.stat().st_ino != original.stat().st_ino


def test_an_adapter_on_tuned_weights_brings_them_along(written: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    manifest = AdapterManifest("tiny", "0" * 16, "r", 4, 8.0, ("q_proj",), step=1)
    write_adapter(adapter, {}, manifest, link_base(written, adapter))
    assert own_base(adapter) == adapter / BASE_DIR
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == "./base"
    assert read_manifest(adapter / BASE_DIR).adapter == "none"
    link_files(adapter, tmp_path / "second")
    assert own_base(tmp_path / "second") == tmp_path / "second" / BASE_DIR  # folders are linked with what is in them


def test_weights_of_its_own_are_told_from_an_adapter_alone(written: Path, tmp_path: Path) -> None:
    assert own_base(written) == written
    write_adapter(tmp_path / "adapter", {}, AdapterManifest("tiny", "", "r", 4, 8.0, ("q_proj",), step=1))
    assert own_base(tmp_path / "adapter") is None
