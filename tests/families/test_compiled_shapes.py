"""Compiled code takes a model only where every layer has the modules and shapes that it computes."""

from collections.abc import Callable
from typing import cast

import pytest
import torch
from tests.families.zoo import ZOO, Tiny, build
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


CHANGES: dict[Change, str] = {
    another_norm: "layer 1 has extra_norm",
    no_norm: "input_layernorm is no RMSNorm of 64 values",
    one_bias: "only some of self_attn.q_proj, self_attn.k_proj, self_attn.v_proj have a bias",
    wide_mlp: "mlp.up_proj of layer 1 has 192 outputs and 64 inputs",
    other_epsilon: "post_attention_layernorm has another epsilon than the config",
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_one_layer_that_differs_is_a_gap(change: Change) -> None:
    model = build(ZOO["llama"])
    assert model_gap(model, "serving") is None
    change(model.get_submodule("model.layers.1"))
    assert model_gap(model, "serving") == CHANGES[change]


def test_a_share_of_each_head_and_layers_of_their_own_size_are_gaps() -> None:
    rope = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}
    partial = build(Tiny("stablelm", {"rope_parameters": rope}))
    partial.config.model_type = "llama"  # as if the table did not know better
    assert model_gap(partial, "serving") == "8 of the 16 values of a head are rotated"
    mixed = build(ZOO["gemma4_text"])
    assert model_gap(mixed, "training") == "its layers have different sizes"


def with_lora(name: str) -> PreTrainedModel:
    model = build(ZOO[name])
    attach(model, TrainingOptions(lora_rank=4), 0, model.get_output_embeddings())
    return model


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "mistral", "smollm3"])
def test_a_lora_beside_the_layers_is_no_gap(name: str) -> None:
    assert model_gap(with_lora(name), "training") is None
