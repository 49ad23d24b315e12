"""Compiled code takes a model only where every layer has the modules and shapes that it computes."""

from collections.abc import Callable
from typing import cast

import pytest
import torch
from tests.families.zoo import ZOO, build
from torch import nn
from transformers import PreTrainedModel

from tunesmith.families.compiled_shapes import model_gap
from tunesmith.settings import TrainingOptions
from tunesmith.train.adapters.lora import attach

Change = Callable[[nn.Module], None]


def another_norm(layer: nn.Module) -> None:
    layer.extra_norm = nn.RMSNorm(64)


def no_norm(layer: nn.Module) -> None:
    layer.input_layernorm = nn.LayerNorm(64)


def one_bias(layer: nn.Module) -> None:
    cast(nn.Linear, layer.get_submodule("self_attn.k_proj")).bias = nn.Parameter(torch.zeros(32))


def wide_mlp(layer: nn.Module) -> None:
    layer.get_submodule("mlp").up_proj = nn.Linear(64, 192, bias=False)


def other_epsilon(layer: nn.Module) -> None:
    layer.get_submodule("post_attention_layernorm").variance_epsilon = 0.1  # type: ignore[assignment]


def other_scale(layer: nn.Module) -> None:
    cast(nn.Module, layer.self_attn).scaling = 0.5  # type: ignore[assignment]


CHANGES: dict[Change, str] = {
    another_norm: "layer 1 has extra_norm",
    no_norm: "input_layernorm is no RMSNorm of 64 values",
    one_bias: "only some of self_attn.q_proj, self_attn.k_proj, self_attn.v_proj have a bias",
    wide_mlp: "mlp.up_proj of layer 1 has 192 outputs and 64 inputs",
    other_epsilon: "post_attention_layernorm has another epsilon than the config",
    other_scale: "its layers have a scaling of their own",
}


def test_a_final_norm_of_another_kind_is_a_gap() -> None:
    model = build(ZOO["llama"])
    model.base_model.norm = nn.LayerNorm(64)
    assert model_gap(model, "serving") == "norm is no RMSNorm of 64 values"


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_one_layer_that_differs_is_a_gap(change: Change) -> None:
    model = build(ZOO["llama"])
    assert model_gap(model, "serving") is None
    change(model.get_submodule("model.layers.1"))
    assert model_gap(model, "serving") == CHANGES[change]


def test_angles_that_fit_no_head_and_layers_of_their_own_size_are_gaps() -> None:
    odd = build(ZOO["llama"])
    odd.base_model.rotary_emb.inv_freq = torch.ones(9)
    assert model_gap(odd, "training") == "18 of the 16 values of a head are rotated"
    olmo = build(ZOO["olmo3"])
    olmo.base_model.rotary_emb.full_attention_inv_freq = torch.ones(4)
    assert model_gap(olmo, "serving") == "its layers rotate shares of different sizes"
    mixed = build(ZOO["gemma4_text"])
    assert model_gap(mixed, "training") == "its layers have different sizes"


def with_lora(name: str) -> PreTrainedModel:
    model = build(ZOO[name])
    attach(model, TrainingOptions(lora_rank=4), 0, model.get_output_embeddings())
    return model


@pytest.mark.parametrize("name", ["llama", "qwen3", "phi4-mini", "gemma3_text", "olmo3", "glm4", "exaone4"])
def test_a_lora_beside_the_layers_is_no_gap(name: str) -> None:
    assert model_gap(with_lora(name), "training") is None
