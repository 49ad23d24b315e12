"""GPT-OSS has its experts in 4 bits (MXFP4): they are unpacked, exactly, for training and serving."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.families.zoo import ZOO, build, write
from torch import Tensor
from transformers import PreTrainedModel

from tunesmith.errors import InvalidRequest
from tunesmith.families.lora_layers import lora_share
from tunesmith.models.facts import base_facts
from tunesmith.models.registry import BaseModel, LocalDirectory
from tunesmith.models.weights import load_model, refuse_packed
from tunesmith.settings import Settings

POSITIVE = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
VALUES = torch.tensor([*POSITIVE, *(-value for value in POSITIVE)])  # of four bits: OCP Microscaling Formats 1.0
BLOCK = 32  # values that share a scale
BIAS = 127  # of the scale, a power of two


def packed(shape: torch.Size, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Random experts [experts, in, out]: their blocks, scales, and what these stand for."""
    experts, inputs, outputs = shape
    codes = torch.randint(16, (experts, outputs, inputs // BLOCK, BLOCK), generator=generator)
    scales = torch.randint(BIAS - 6, BIAS - 3, (experts, outputs, inputs // BLOCK), generator=generator)
    values = VALUES[codes] * torch.exp2(scales.float() - BIAS).unsqueeze(-1)
    blocks = codes[..., 0::2] | (codes[..., 1::2] << 4)
    return blocks.to(torch.uint8), scales.to(torch.uint8), values.reshape(experts, outputs, inputs).transpose(1, 2)


def write_packed(folder: Path) -> PreTrainedModel:
    """A tiny GPT-OSS as its repository has it; the model in float32 that it stands for."""
    generator = torch.Generator().manual_seed(0)
    model = build(ZOO["gpt_oss"])
    parameters, written = dict(model.named_parameters()), dict[str, Tensor]()
    for name, tensor in load_file(write(ZOO["gpt_oss"], folder) / "model.safetensors").items():
        if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            blocks, scales, values = packed(tensor.shape, generator)
            written |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
        else:
            written[name] = tensor.bfloat16()
            values = written[name].float()
        parameters[name].data.copy_(values)
    save_file(written, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    return model


def test_packed_experts_are_the_numbers_that_they_stand_for(tmp_path: Path) -> None:
    expected = write_packed(tmp_path)
    model = load_model(tmp_path, torch.float32)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    for name, parameter in expected.named_parameters():
        assert torch.equal(model.get_parameter(name), parameter), name


def test_packed_experts_are_counted_by_their_values(tmp_path: Path) -> None:
    model = write_packed(tmp_path)
    experts = sum(p.numel() for name, p in model.named_parameters() if name.endswith(("gate_up_proj", "down_proj")))
    assert lora_share(tmp_path, ["all-linear"]).experts == experts
    (tmp_path / "tokenizer.json").write_text('{"model": {}}', "utf-8")
    (tmp_path / "tokenizer_config.json").write_text("{}", "utf-8")
    facts = base_facts(BaseModel("mine", LocalDirectory(tmp_path), None), Settings())
    assert facts.parameters == model.num_parameters()
    assert facts.weights == f"MXFP4 ({tmp_path}); a LoRA reaches 14 % of its layers"


def test_a_packed_base_is_not_packed_once_more(tmp_path: Path) -> None:
    write_packed(tmp_path)
    with pytest.raises(InvalidRequest, match=r"already \(MXFP4\).*Leave 'quantization' out") as error:
        refuse_packed(tmp_path)
    assert error.value.param == "tunesmith.quantization"
    refuse_packed(write(ZOO["llama"], tmp_path / "plain"))
