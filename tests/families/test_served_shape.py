"""What is read of a config alone is what transformers makes of it, and it is asked for all else."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import cast

import numpy
import pytest
from tests.families.zoo import LLAMA3, ZOO, Tiny, build, write

from tunesmith.families.served_shape import HEAD, ServedShape, has_its_tensors, served_shape
from tunesmith.jsonvalue import JsonObject
from tunesmith.models.mapped import map_tensors
from tunesmith.serve.local.base_weights import map_weights
from tunesmith.serve.local.torch_weights import weights_of

LINEAR: dict[str, object] = {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}}
READ = {
    "llama": ZOO["llama"],
    "llama 3.2": ZOO["llama 3.2"],
    "llama with biases": Tiny("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama, linear": Tiny("llama", LINEAR),
    "mistral": ZOO["mistral"],
    "qwen2": ZOO["qwen2"],
    "qwen3": ZOO["qwen3"],
}
PLAIN: JsonObject = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 96, "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5, "rope_theta": 1e4, "rope_scaling": None,
}  # fmt: skip
OLD_LLAMA3 = {**{name: value for name, value in LLAMA3.items() if name != "rope_theta"}, "rope_type": "llama3"}


def plain(shape: ServedShape | None) -> dict[str, object]:
    assert shape is not None
    values = asdict(shape)
    del values["frequencies"]
    return values


@pytest.mark.parametrize("name", READ)
def test_a_base_of_files_alone_is_the_one_of_transformers(name: str, tmp_path: Path) -> None:
    read, asked = map_weights(write(READ[name], tmp_path)), weights_of(build(READ[name]))
    assert read is not None
    assert plain(read.shape) == plain(asked.shape)
    ours, theirs = read.shape.frequencies, asked.shape.frequencies
    assert ours.scaling == theirs.scaling
    numpy.testing.assert_array_max_ulp(ours.rates, theirs.rates, maxulp=2)
    for path in read.shape.linears():
        assert numpy.array_equal(read.weight(path), asked.weight(path))
        mine, other = read.bias(path), asked.bias(path)
        assert (mine is None) == (other is None)
        assert mine is None or other is None or numpy.array_equal(mine, other)


@pytest.mark.parametrize("name", sorted({*ZOO} - {*READ}))
def test_transformers_is_asked_for_other_families(name: str) -> None:
    assert served_shape(ZOO[name].config().to_dict()) is None


def test_the_older_words_for_a_rotation_are_read() -> None:
    new = {name: value for name, value in PLAIN.items() if not name.startswith("rope")}
    shape = served_shape(PLAIN)
    other = served_shape({**new, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}})
    assert plain(shape) == plain(other)
    scaled = served_shape({**PLAIN, "rope_scaling": cast(JsonObject, OLD_LLAMA3)})
    assert scaled is not None
    assert shape is not None
    assert scaled.frequencies.rates[-1] == numpy.float32(shape.frequencies.rates[-1] / numpy.float32(32))
    assert scaled.frequencies.rates[0] == shape.frequencies.rates[0] == 1


@pytest.mark.parametrize("name", [name for name in PLAIN if name != "rope_scaling"])
def test_what_a_file_leaves_to_the_family_is_asked(name: str) -> None:
    assert served_shape({key: value for key, value in PLAIN.items() if key != name}) is None


@pytest.mark.parametrize(
    "change",
    [
        {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
        {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}},
        {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
        {"partial_rotary_factor": 0.5},
        {"hidden_act": "gelu"},
        {"quantization_config": {"quant_method": "awq"}},
        {"text_config": {}},
        {"layer_types": ["sliding_attention", "full_attention"]},
        {"num_key_value_heads": "2"},
        {"num_hidden_layers": True},
        {"rms_norm_eps": None},
        {"model_type": "mistral"},
        {"model_type": "mistral", "sliding_window": 64},
        {"model_type": "qwen3"},
        {"model_type": "qwen2", "use_sliding_window": True},
    ],
    ids=str,
)
def test_what_is_not_known_here_is_asked(change: JsonObject) -> None:
    assert served_shape({**PLAIN, **change}) is None


def test_tensors_that_are_more_or_fewer_than_the_shape_says_are_left_to_transformers(tmp_path: Path) -> None:
    config = json.loads((write(READ["qwen2"], tmp_path) / "config.json").read_text())
    shape, tensors = served_shape(config), map_tensors(tmp_path)
    assert shape is not None
    assert tensors is not None
    assert has_its_tensors(config, shape, tensors)
    bias = "model.layers.1.self_attn.k_proj.bias"
    without = {name: tensor for name, tensor in tensors.items() if name != bias}
    assert not has_its_tensors(config, shape, without)
    assert not has_its_tensors(config, shape, {**tensors, "model.layers.1.mlp.up_proj.bias": tensors[bias]})
    assert not has_its_tensors(config, shape, {**tensors, bias: tensors[bias][:-1]})
    assert not has_its_tensors({**config, "tie_word_embeddings": True}, shape, tensors)
    untied = {name: tensor for name, tensor in tensors.items() if name != HEAD}
    assert has_its_tensors({**config, "tie_word_embeddings": True}, shape, untied)
    assert not has_its_tensors({**config, "tie_word_embeddings": False}, shape, untied)
