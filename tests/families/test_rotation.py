"""Cosines and sines beside transformers' and beside float64."""

import numpy
import torch
from tests.families.zoo import LLAMA3
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from tunesmith.families.rotation import POSITIONS, Rotation, frequencies
from tunesmith.jsonvalue import JsonObject

ROPES: list[JsonObject] = [
    {"rope_type": "default", "rope_theta": 1e4},
    {"rope_type": "default", "rope_theta": 1e6},
    {"rope_type": "linear", "rope_theta": 1e4, "factor": 8.0},
    {**LLAMA3, "original_max_position_embeddings": 8192},  # type: ignore[dict-item]
]


def test_they_are_those_of_transformers_to_the_rounding_of_an_angle() -> None:
    positions = numpy.arange(0, 5000, 7)
    for rope in ROPES:
        config = LlamaConfig(hidden_size=256, num_attention_heads=4, rope_parameters=rope, max_position_embeddings=8192)
        found = frequencies({"rope_parameters": rope}, 64)
        assert found is not None
        theirs = LlamaRotaryEmbedding(config)(torch.empty(1), torch.from_numpy(positions).unsqueeze(0))
        for mine, other in zip(Rotation(found).of(positions, [(len(positions), 5000)]), theirs, strict=True):
            # float32 has angles near 5,000 to 2.4e-4 only, and a rate may be rounded the other way
            numpy.testing.assert_allclose(mine[0], other[0].numpy(), rtol=0, atol=5e-4)
            assert (abs(mine[0] - other[0].numpy()) < 2e-7).mean() > 0.95


def test_they_are_float64s_rounded_once_and_do_not_depend_on_the_tables_size() -> None:
    found = frequencies({"rope_theta": 1e5}, 64)
    assert found is not None
    rotation, positions = Rotation(found), numpy.arange(POSITIONS)
    first = rotation.of(positions, [(POSITIONS, POSITIONS)])
    angles = (positions.astype(numpy.float32)[:, None] * found.rates).astype(numpy.float64)
    assert numpy.array_equal(first[0][0, :, :32], numpy.cos(angles).astype(numpy.float32))
    assert numpy.array_equal(first[1][0, :, 32:], numpy.sin(angles).astype(numpy.float32))
    later = rotation.of(positions, [(POSITIONS, 5 * POSITIONS)])
    assert all(numpy.array_equal(one, other) for one, other in zip(first, later, strict=True))
