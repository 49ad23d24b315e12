"""GGUF's blocks are in panels as the kernels' own tests lay them out, and padded with zeros."""

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES
from tests.families.blocks.test_kinds import KINDS_IN_ORDER, random_rows
from tests.kernels.blocks import BLOCK_KINDS, PANELS, TYPES
from tests.kernels.cases.block_cases import widened

from tunesmith.families.blocks.kinds import KBlocks, SmallBlocks, take_apart
from tunesmith.families.blocks.panels import format_of, packing, panels_shape
from tunesmith.kernels.vectors import LANES, Number


class Rows:
    def __init__(self, kind: str, rows: np.ndarray) -> None:
        self.kind, self.rows = kind, rows

    def take(self, outputs: np.ndarray) -> SmallBlocks | KBlocks:
        return take_apart(self.kind, self.rows[outputs])


@pytest.mark.parametrize("number", BLOCK_KINDS, ids=lambda number: number.name)
def test_panels_are_laid_out_as_the_kernels_read_them(number: Number) -> None:
    inputs, size = GGML_QUANT_SIZES[TYPES[number]]
    random = np.random.default_rng(int(number))
    one, two = (random.integers(0, 256, (outs, 512 // inputs, size), np.uint8) for outs in (23, 600))
    pieces = [
        (Rows(TYPES[number].name, rows.reshape(len(rows), -1)), np.arange(len(rows))[::-1]) for rows in (one, two)
    ]
    panels = np.full(panels_shape(pieces, number, 512), 7, np.uint8)
    assert panels.shape[0] == 2 + 38
    for work in packing(pieces, number, panels):
        work()
    expected = np.concatenate([PANELS[number](padded(rows[::-1])) for rows in (one, two)])
    full = [0, *range(2, 39)]
    np.testing.assert_array_equal(panels[full], expected[full])
    if number != Number.INT6:  # there zeros of a scale make a weight zero, whatever its number is
        np.testing.assert_array_equal(panels, expected)
    assert not panels[1].reshape(-1, LANES * 2)[0].view(np.float16)[23 - LANES :].any()


@pytest.mark.skipif(not BLOCK_KINDS, reason="this processor cannot read float16 numbers, as scales are")
@pytest.mark.parametrize("kind", KINDS_IN_ORDER)
def test_the_kernels_read_the_numbers_of_every_kind(kind: str) -> None:
    rows, number = random_rows(kind, 2 * LANES), format_of([kind])
    assert number is not None
    pieces = [(Rows(kind, rows), np.arange(len(rows)))]
    panels = np.zeros(panels_shape(pieces, number, 512), np.uint8)
    for work in packing(pieces, number, panels):
        work()
    expected = take_apart(kind, rows).values()
    found = widened(number, panels, 512).transpose(0, 2, 1).reshape(expected.shape)
    if kind in ("Q2_K", "Q4_K", "Q5_K"):  # with a least value: rounded once, where gguf rounds twice
        largest = np.abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=4e-7 * largest)
    else:
        np.testing.assert_array_equal(found, expected)


def padded(blocks: np.ndarray) -> np.ndarray:
    """Blocks of whole panels."""
    return np.concatenate([blocks, np.zeros((-len(blocks) % LANES, *blocks.shape[1:]), np.uint8)])


def test_the_format_holds_all_kinds_of_a_line() -> None:
    assert format_of(["Q4_K", "Q4_K"]) == Number.INT4
    assert format_of(["Q4_K", "Q6_K", "Q5_K"]) == Number.INT6
    assert format_of(["Q8_0", "Q5_0", "IQ4_NL"]) == Number.INT8
    assert format_of(["Q8_0", "Q6_K"]) is None
    assert format_of(["Q4_1"]) is None
