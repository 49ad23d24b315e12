"""Each model family is decided in one place, which training and serving both ask."""

from pathlib import Path
from types import SimpleNamespace

import pytest

import tunesmith
from tunesmith.families.layout import (
    HEAD_NORMS,
    LAYER_NORMS,
    POST_NORMS,
    SHARED_INPUTS,
    head_size,
    layer_inputs,
    norm_names,
)
from tunesmith.families.table import FAMILIES, Use, compiled_gap, family_gap, windows
from tunesmith.kernels.records import LAYER_MATRICES
from tunesmith.kernels.serving.step_args import LAYER
from tunesmith.kernels.training.step_args import TRAIN_LAYER

SOURCE = Path(tunesmith.__file__).parent
LLAMA = {"model_type": "llama", "hidden_act": "silu"}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_named_in_the_table_alone(name: str) -> None:
    """Whoever compares a model type elsewhere decides a family a second time."""
    sources = [path for room in ("serve", "train", "families") for path in (SOURCE / room).rglob("*.py")]
    sources = [
        path for path in sources if path.parent.name != "trial"
    ]  # which makes bases of a type, and compares none
    assert len(sources) > 40
    assert [path.name for path in sources if f'"{name}"' in path.read_text("utf-8")] == ["table.py"]


def test_a_gap_is_the_reason_and_no_gap_is_none() -> None:
    assert family_gap("qwen3") is None
    assert family_gap("gemma2") is None
    assert family_gap("mixtral") == "it is a mixture of experts"
    assert family_gap("mamba") == "the family mamba is not known"


@pytest.mark.parametrize(
    ("change", "use", "gap"),
    [
        ({}, "training", None),
        ({}, "serving", None),
        ({"hidden_act": "gelu"}, "training", "its activation is gelu, not SiLU or GELU with tanh"),
        ({"hidden_act": "gelu"}, "serving", "its activation is gelu, not SiLU or GELU with tanh"),
        ({"hidden_activation": "gelu_pytorch_tanh"}, "serving", None),
        ({"hidden_activation": "gelu_pytorch_tanh"}, "training", None),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "serving", None),
        ({"layer_types": ["full_attention", "chunked_attention"]}, "serving", "not every layer has full attention"),
        ({"model_type": "mistral", "sliding_window": 64}, "training", None),
        ({"model_type": "mistral", "sliding_window": 64}, "serving", None),
        ({"use_bidirectional_attention": True}, "serving", "its tokens see those that follow"),
        ({"model_type": "mistral", "sliding_window": None}, "serving", None),
        ({"attention_dropout": 0.1}, "training", "attention scores have dropout"),
        ({"attention_dropout": 0.1}, "serving", None),
        ({"rope_parameters": {"rope_type": "dynamic"}}, "serving", "its rotary embedding is of the kind dynamic"),
        ({"rope_parameters": {"rope_type": "dynamic"}}, "training", None),
        ({"rope_parameters": {"rope_type": "longrope", "short_factor": [1.0]}}, "serving", None),
        (
            {"rope_parameters": {"full_attention": {"rope_type": "dynamic"}, "sliding_attention": {}}},
            "serving",
            "its rotary embedding is of the kind dynamic",
        ),
    ],
)
def test_what_a_config_asks_for_can_be_a_gap(change: dict[str, object], use: Use, gap: str | None) -> None:
    assert compiled_gap(SimpleNamespace(**{**LLAMA, **change}), use) == gap  # type: ignore[arg-type]


def test_a_window_is_that_of_the_layers_that_have_one() -> None:
    def of(**values: object) -> list[int]:
        return windows(SimpleNamespace(**{**LLAMA, "num_hidden_layers": 2, **values}))  # type: ignore[arg-type]

    mixed = ["sliding_attention", "full_attention"]
    assert of(sliding_window=8) == [0, 0]  # Llama knows no such value
    assert of(model_type="mistral", sliding_window=8) == [8, 8]
    assert of(model_type="mistral", sliding_window=None) == [0, 0]
    assert of(model_type="phi3", sliding_window=64, max_position_embeddings=64) == [0, 0]  # no sequence fills it
    assert of(layer_types=mixed, sliding_window=8) == [8, 0]


def test_the_layout_is_that_of_the_kernels_tables() -> None:
    assert len(SHARED_INPUTS) == LAYER_MATRICES
    for record in (LAYER, TRAIN_LAYER):
        assert set(LAYER_NORMS | POST_NORMS | HEAD_NORMS) <= set(record.names or ())
        for family in FAMILIES.values():
            assert set(family.layout.norms) <= set(record.names or ())
    fused = SimpleNamespace(self_attn=SimpleNamespace(qkv_proj=1), mlp=SimpleNamespace(gate_up_proj=1))
    assert layer_inputs(object()) == list(SHARED_INPUTS)
    assert layer_inputs(fused) == [("self_attn.qkv_proj",), SHARED_INPUTS[1], ("mlp.gate_up_proj",), SHARED_INPUTS[3]]


def test_sizes_and_norms_follow_from_config_and_attention() -> None:
    assert head_size(SimpleNamespace(hidden_size=64, num_attention_heads=4)) == 16
    assert head_size(SimpleNamespace(hidden_size=64, num_attention_heads=4, head_dim=None)) == 16
    assert head_size(SimpleNamespace(hidden_size=64, num_attention_heads=4, head_dim=32)) == 32
    assert norm_names(object()) == LAYER_NORMS
    assert norm_names(SimpleNamespace(q_norm=1)) == LAYER_NORMS | HEAD_NORMS
