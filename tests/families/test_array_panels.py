"""Panels packed of arrays are those that training packs of tensors, to the bit, of all formats that are stored."""

import numpy
import pytest
import torch
from torch import Tensor

from tunesmith.families import panels
from tunesmith.families.array_panels import (
    CHUNK,
    Weights,
    Width,
    pack,
    pack_bias,
    packing,
    panel_bytes,
    take_panels,
    widen,
    widen_rows,
)
from tunesmith.kernels.vectors import HAS_HALF
from tunesmith.system.pages import ArraySlab, Slab

KINDS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
WIDTHS: list[Width] = ["float32", "bfloat16", *(["float16"] if HAS_HALF else [])]  # type: ignore[list-item]


def array(tensor: Tensor) -> Weights:
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(numpy.uint16)
    found: Weights = tensor.numpy()
    return found


def slabs(size: int) -> tuple[ArraySlab, Slab]:
    """Of memory that is not zero."""
    return ArraySlab(numpy.full(size, 77, numpy.uint8)), Slab(torch.full((size,), 77, dtype=torch.uint8))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("stored", KINDS)
@pytest.mark.parametrize("outputs", [(16,), (48, 32), (1,), (17, 31), (5, 64)], ids=str)
@pytest.mark.parametrize("inputs", [16, 48, 1, 15, 70])
def test_panels_are_those_of_training(width: Width, stored: str, outputs: tuple[int, ...], inputs: int) -> None:
    draw = torch.Generator().manual_seed(inputs)
    parts = [torch.randn(rows, inputs, generator=draw).to(KINDS[stored]) for rows in outputs]
    size = panel_bytes([*map(array, parts)], width)
    assert size == panels.packed_bytes(parts, width)
    mine, theirs = slabs(size)
    found, expected = pack([*map(array, parts)], width, mine), panels.pack(parts, width, theirs)
    assert found.tobytes() == expected.view(torch.uint8).numpy().tobytes()


def test_a_matrix_of_several_pieces_is_packed_whole() -> None:
    outputs, inputs = 16 * 40 + 3, CHUNK // 256
    numbers = numpy.random.default_rng(0).standard_normal((outputs, inputs), dtype=numpy.float32)
    found = pack([numbers], "float32", ArraySlab(numpy.empty(panel_bytes([numbers], "float32"), numpy.uint8)))
    assert numpy.array_equal(found.transpose(0, 2, 1).reshape(-1, inputs)[:outputs], numbers)
    assert not found[-1, :, 3:].any()


def test_no_piece_holds_a_copy_before_it_is_packed() -> None:
    """Where the kernel does not read or round the numbers itself, all pieces together would be the base once more."""
    numbers = numpy.random.default_rng(0).standard_normal((64, 16), dtype=numpy.float32)
    panels = take_panels([numbers], "bfloat16", ArraySlab(numpy.zeros(panel_bytes([numbers], "bfloat16"), numpy.uint8)))
    (work, rows) = packing([numbers], panels, "bfloat16")[0]
    assert numpy.shares_memory(rows, numbers)
    work()
    expected = torch.from_numpy(numbers).bfloat16().float().numpy()
    assert numpy.array_equal(widen(panels).transpose(0, 2, 1).reshape(64, 16), expected)


def test_what_is_no_number_stays_none_in_bfloat16() -> None:
    bits = numpy.array([0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FC00000], numpy.uint32)
    numbers = numpy.broadcast_to(bits.view(numpy.float32)[:, None], (4, 16))
    slab = ArraySlab(numpy.zeros(panel_bytes([numbers], "bfloat16"), numpy.uint8))
    assert numpy.isnan(widen(pack([numbers], "bfloat16", slab))[0, :, :4]).all()


@pytest.mark.parametrize("stored", KINDS)
def test_numbers_in_float32_are_those_of_torch(stored: str) -> None:
    special = [0.0, -0.0, 1.0, -65504.0, 6e-8, float("inf"), float("nan"), 3.14159]
    tensor = torch.tensor([special] * 3).to(KINDS[stored])
    assert widen(array(tensor)).tobytes() == tensor.float().numpy().tobytes()
    assert widen_rows(array(tensor), 2).tobytes() == tensor.float().numpy().tobytes()


def test_biases_are_those_of_training() -> None:
    parts = [torch.randn(3), torch.randn(17).bfloat16()]
    assert pack_bias([*map(array, parts)]).tobytes() == panels.pack_bias(parts).numpy().tobytes()
