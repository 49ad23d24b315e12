"""Names of layers, from the weight files alone: what a job may target is known before torch is."""

from pathlib import Path

import pytest

from tunesmith.errors import InvalidRequest
from tunesmith.families.lora_layers import check_targets, is_target, linear_paths


def test_the_weight_files_tell_the_linear_layers_of_the_blocks(base_dir: Path) -> None:
    paths = linear_paths(base_dir)
    assert len(paths) == 30 * 7
    assert "model.layers.29.self_attn.v_proj" in paths
    assert not any("embed" in path or "norm" in path for path in paths)


@pytest.mark.parametrize(
    ("path", "of"),
    [
        ("model.layers.0.self_attn.q_proj", "attention"),
        ("transformer.h.0.attn.c_attn", "attention"),
        ("gpt_neox.layers.0.attention.dense", "attention"),
        ("model.layers.0.mlp.gate_up_proj", "mlp"),
        ("model.layers.0.feed_forward.w1", "mlp"),
    ],
)
def test_sets_know_the_families_names(path: str, of: str) -> None:
    assert [name for name in ("attention", "mlp") if is_target(path, [name])] == [of]
    assert is_target(path, ["all-linear"])


def test_each_unknown_target_is_named_with_what_there_is(base_dir: Path) -> None:
    with pytest.raises(
        InvalidRequest,
        match=r"'query', 'lm_head', but the blocks of smol have no such layer\. They have: down_proj",
    ) as error:
        check_targets(linear_paths(base_dir), ["q_proj", "query", "lm_head"], "smol")
    assert (error.value.param, error.value.code) == ("tunesmith.lora_targets", "invalid_lora_targets")
