"""Names of layers, from the weight files alone: what a job may target is known before torch is."""

from pathlib import Path

import pytest
from tests.families.zoo import ZOO, build, write

from tunesmith.errors import InvalidRequest
from tunesmith.families.lora_layers import check_targets, in_blocks, is_target, linear_paths, lora_share
from tunesmith.families.text_part import text_part
from tunesmith.settings import TrainingOptions
from tunesmith.train.adapters.lora import attach


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


@pytest.mark.parametrize("name", ["mixtral", "qwen3_moe", "gpt_oss", "granitemoe", "llama4", "gemma3", "llama"])
def test_the_files_tell_which_layers_a_lora_reaches(name: str, tmp_path: Path) -> None:
    """As many values as the adapter's layers have: experts, routers and the vision tower are none of them."""
    base, model = write(ZOO[name], tmp_path), text_part(build(ZOO[name]))
    inside = {path: tensor for path, tensor in model.named_parameters() if in_blocks(path) and tensor.dim() > 1}
    matrices = {path: tensor.numel() for path, tensor in inside.items() if not path.endswith("bias")}
    adapter = attach(model, TrainingOptions(lora_rank=2), 0, model.get_output_embeddings())
    share = lora_share(base, ["all-linear"])
    assert share.adapted == sum(layer.in_features * layer.out_features for layer in adapter.layers.values())
    assert share.total == sum(matrices.values())
    assert share.experts == sum(values for path, values in matrices.items() if ".experts." in path)
    assert (share.notice is None) == (name in ("gemma3", "llama"))
    assert len(linear_paths(base)) == len(adapter.layers)


def test_targets_that_leave_layers_out_reach_less(tmp_path: Path) -> None:
    base = write(ZOO["mixtral"], tmp_path)
    whole, some = lora_share(base, ["all-linear"]), lora_share(base, ["q_proj"])
    assert (some.adapted, some.total) == (2 * 64 * 64, whole.total)
    assert "reaches 5 % of the weights in this base's layers. 85 % are those" in str(some.notice)
    with pytest.raises(InvalidRequest, match="have no such layer"):
        check_targets(linear_paths(base), ["w1"], "mixtral")  # of its experts
