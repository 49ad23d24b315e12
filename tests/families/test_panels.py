"""Matrices in panels of 16 outputs hold the numbers of the matrices, and zeros where they are padded."""

import pytest
import torch
from torch import Tensor

from tunesmith.families.array_panels import CHUNK, Width, whole_panels
from tunesmith.families.panels import DTYPES, pack, pack_back, pack_bias, packed_bytes
from tunesmith.system.pages import Slab


def slab(size: int) -> Slab:
    """Memory that is not zero."""
    return Slab(torch.full((size,), 77, dtype=torch.uint8))


def unpacked(panels: Tensor) -> Tensor:
    """[panels, I, 16] -> [16 * panels, I]."""
    return panels.transpose(1, 2).reshape(-1, panels.shape[1])


@pytest.mark.parametrize(("columns", "panels"), [(0, 0), (1, 1), (15, 1), (16, 1), (17, 2), (53, 4)])
def test_a_panel_begun_is_a_whole_one(columns: int, panels: int) -> None:
    assert whole_panels(columns) == panels


@pytest.mark.parametrize("width", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("outputs", [(1,), (15, 17), (16, 32), (53, 1, 16)])
def test_each_matrix_begins_a_panel_and_zeros_pad_its_last_one(outputs: tuple[int, ...], width: Width) -> None:
    parts = [torch.randn(count, 7) for count in outputs]
    memory = slab(packed_bytes(parts, width))
    rows, first = unpacked(pack(parts, width, memory)), 0
    for part in parts:
        assert torch.equal(rows[first : first + len(part)], part.to(rows.dtype))
        end = first + 16 * whole_panels(len(part))
        assert not rows[first + len(part) : end].any()
        first = end
    assert first == len(rows)
    with pytest.raises(RuntimeError):
        pack(parts, width, memory)  # it has taken what `packed_bytes` says, and nothing is left


def test_a_large_matrix_is_packed_in_pieces_and_each_may_be_freed() -> None:
    outputs, inputs = 16 * 20 + 3, CHUNK // 128
    part = torch.arange(outputs * inputs, dtype=torch.int16).view(outputs, inputs).view(torch.bfloat16)
    expected, freed = part.view(torch.int16).clone(), []

    def free(rows: Tensor) -> None:
        freed.append(len(rows))
        rows.zero_()

    rows = unpacked(pack([part, part[:1]], "bfloat16", slab(packed_bytes([part, part[:1]], "bfloat16")), free))
    assert freed == [128, 128, 67, 1]
    assert torch.equal(rows[:outputs].view(torch.int16), expected)
    assert not rows[outputs:].any()


def test_biases_are_padded_as_their_matrices_are() -> None:
    parts = [torch.arange(1.0, 4.0), torch.arange(4.0, 21.0).half()]
    packed = pack_bias(parts)
    assert packed.dtype == torch.float32
    assert packed.tolist() == [1, 2, 3, *[0] * 13, *range(4, 21), *[0] * 15]


@pytest.mark.parametrize("width", ["float32", "float16", "bfloat16"])
def test_matrices_are_packed_from_their_outputs_side(width: Width) -> None:
    parts = [torch.randn(count, 32).to(DTYPES[width]) for count in (16, 48)]
    packed = pack_back(parts, width, slab(packed_bytes(parts, width)))
    assert torch.equal(unpacked(packed), torch.cat(parts).T)
