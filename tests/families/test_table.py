"""Each model family is decided in one place, which training and serving both ask."""

from pathlib import Path
from types import SimpleNamespace

import pytest

import tunesmith
from tunesmith.families.layout import HEAD_NORMS, LAYER_NORMS, SHARED_INPUTS, head_size, norm_names, shared_inputs
from tunesmith.families.table import FAMILIES, Use, compiled_gap, family_gap
from tunesmith.kernels.records import LAYER_MATRICES
from tunesmith.kernels.serving.step_args import LAYER

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
    assert family_gap("qwen3", "training") is None
    assert family_gap("qwen3", "serving") is None
    assert family_gap("smollm3", "training") is None
    assert "no rotary embedding" in str(family_gap("smollm3", "serving"))
    assert "soft-capped" in str(family_gap("gemma2", "training"))
    assert family_gap("mamba", "serving") == "the family mamba is not known"


@pytest.mark.parametrize(
    ("change", "use", "gap"),
    [
        ({}, "training", None),
        ({}, "serving", None),
        ({"hidden_act": "gelu"}, "serving", "its activation is gelu, not SiLU"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "training", "not every layer has full attention"),
        ({"model_type": "mistral", "sliding_window": 64}, "serving", "not every layer has full attention"),
        ({"model_type": "mistral", "sliding_window": None}, "serving", None),
        ({"attention_dropout": 0.1}, "training", "attention scores have dropout"),
        ({"attention_dropout": 0.1}, "serving", None),
        ({"rope_parameters": {"rope_type": "dynamic"}}, "serving", "its rotary embedding is of the kind dynamic"),
        ({"rope_parameters": {"rope_type": "dynamic"}}, "training", None),
    ],
)
def test_what_a_config_asks_for_can_be_a_gap(change: dict[str, object], use: Use, gap: str | None) -> None:
    assert compiled_gap(SimpleNamespace(**{**LLAMA, **change}), use) == gap  # type: ignore[arg-type]


def test_the_layout_is_that_of_the_kernels_tables() -> None:
    assert len(SHARED_INPUTS) == LAYER_MATRICES
    assert set(LAYER_NORMS | HEAD_NORMS) <= set(LAYER.names or ())
    assert shared_inputs(3)[1] == ("model.layers.3.self_attn.o_proj",)


def test_sizes_and_norms_follow_from_config_and_attention() -> None:
    assert head_size(SimpleNamespace(hidden_size=64, num_attention_heads=4)) == 16
    assert head_size(SimpleNamespace(hidden_size=64, num_attention_heads=4, head_dim=None)) == 16
    assert head_size(SimpleNamespace(hidden_size=64, num_attention_heads=4, head_dim=32)) == 32
    assert norm_names(object()) == LAYER_NORMS
    assert norm_names(SimpleNamespace(q_norm=1)) == LAYER_NORMS | HEAD_NORMS
