import json

import pytest
import torch

from tunesmith.errors import ServerFault
from tunesmith.models.adapters import AdapterManifest, load_tensors, read_manifest, write_adapter

MANIFEST = AdapterManifest(
    base_name="smollm2-135m-instruct",
    base_fingerprint="0123456789abcdef",
    renderer="chat-template-v1-0",
    rank=4,
    alpha=8.0,
    target_modules=("q_proj",),
    step=10,
)
NAME = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


def test_adapter_comes_back_as_written(tmp_path) -> None:
    tensors = {NAME: torch.randn(4, 8)}
    written = write_adapter(tmp_path / "adapter", tensors, MANIFEST)
    assert read_manifest(tmp_path / "adapter") == written
    assert torch.equal(load_tensors(tmp_path / "adapter")[NAME], tensors[NAME])


def test_directory_without_a_manifest_is_no_adapter(tmp_path) -> None:
    write_adapter(tmp_path, {NAME: torch.zeros(4, 8)}, MANIFEST)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(ServerFault, match="no usable adapter"):
        read_manifest(tmp_path)


def test_changed_tensors_are_refused(tmp_path) -> None:
    write_adapter(tmp_path, {NAME: torch.zeros(4, 8)}, MANIFEST)
    path = tmp_path / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ServerFault, match="does not match its manifest"):
        load_tensors(tmp_path)


def test_config_is_pefts(tmp_path) -> None:
    from peft import LoraConfig

    write_adapter(tmp_path, {NAME: torch.zeros(4, 8)}, MANIFEST)
    config = LoraConfig.from_pretrained(str(tmp_path))
    assert (config.r, config.lora_alpha, set(config.target_modules)) == (4, 8.0, {"q_proj"})
    assert json.loads((tmp_path / "adapter_config.json").read_text())["peft_type"] == "LORA"
