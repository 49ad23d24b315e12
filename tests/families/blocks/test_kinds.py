"""Blocks that are taken apart give the numbers that the gguf package makes of them, to the bit."""

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize

from tunesmith.families.blocks.kinds import K_KINDS, KINDS, KBlocks, block_inputs, row_bytes, take_apart


def random_rows(kind: str, rows: int = 6, inputs: int = 512) -> np.ndarray:
    """Blocks of any bytes whose scales are finite."""
    rng = np.random.default_rng(KINDS_IN_ORDER.index(kind))
    blocks = rng.integers(0, 256, (rows * inputs // block_inputs(kind), row_bytes(kind, block_inputs(kind))), np.uint8)
    for at in HALVES[kind]:
        blocks[:, at : at + 2] = (rng.standard_normal((len(blocks), 1)) / 64).astype(np.float16).view(np.uint8)
    return blocks.reshape(rows, -1)


KINDS_IN_ORDER = sorted(KINDS)
HALVES = {"Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)} | dict.fromkeys(
    ("Q8_0", "Q4_0", "Q5_0", "IQ4_NL"), (0,)
)


@pytest.mark.parametrize("kind", KINDS_IN_ORDER)
def test_the_values_are_the_gguf_packages_to_the_bit(kind: str) -> None:
    rows = random_rows(kind)
    expected = dequantize(rows, GGMLQuantizationType[kind])
    np.testing.assert_array_equal(take_apart(kind, rows).values().view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("kind", KINDS_IN_ORDER)
def test_the_sizes_of_blocks_are_the_gguf_packages(kind: str) -> None:
    assert (block_inputs(kind), row_bytes(kind, block_inputs(kind))) == GGML_QUANT_SIZES[GGMLQuantizationType[kind]]


@pytest.mark.parametrize("kind", sorted(K_KINDS))
def test_more_scales_change_no_value(kind: str) -> None:
    blocks = take_apart(kind, random_rows(kind))
    assert isinstance(blocks, KBlocks)
    finer = blocks.in_subblocks_of_16()
    assert finer.scale.shape == (6, 2, 16)
    np.testing.assert_array_equal(finer.values(), blocks.values())
