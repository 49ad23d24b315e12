"""Cases of bfloat16 dot products: rounding, panels in pairs, products."""

import numpy
from tests.kernels.reference import Floats, Pairs, normal, reference, stored, to_panels, wide

from tunesmith.kernels.dots.amx import AMX_SCRATCH
from tunesmith.kernels.dots.pairs import PAIR_ROW_BYTES, pair_transposed, round_rows
from tunesmith.kernels.dots.products import dot_scratch, multiply_pairs, multiply_rounded
from tunesmith.kernels.dots.unit import WHOLE, DotUnit
from tunesmith.kernels.dots.vector import vector_panel
from tunesmith.kernels.vectors import LANES, Number

LENGTH, PANELS = 3 * WHOLE, 3
WHOLE_SIZES, WHOLE_REASON = (LANES, 3 * LANES, 5 * LANES), "whole sixteens only"


def to_bfloat16(numbers: Floats) -> Floats:
    """Rounded to the nearest bfloat16, to the even one of two, as uint16."""
    bits = numpy.ascontiguousarray(numbers, numpy.float32).view(numpy.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(numpy.uint16)


def rounded(numbers: Floats) -> Floats:
    """The same in float64."""
    return wide(to_bfloat16(numbers))


def in_pairs(panel: Floats) -> Floats:
    """[length, 16] -> [length / 2, 16, 2]."""
    return numpy.ascontiguousarray(panel.reshape(len(panel) // 2, 2, LANES).swapaxes(1, 2))


@reference(round_rows, sizes=WHOLE_SIZES, reason=WHOLE_REASON, tolerance=0)
def round_rows_case(size: int) -> Pairs:
    """Two of four rows, which are further apart than their length."""
    x, out = normal(numpy.random.default_rng(size), 4, size + 5), numpy.zeros((4, size), numpy.uint16)
    round_rows(x.ctypes.data, x.strides[0], out.ctypes.data, size, 1, 3)
    expected = rounded(x[:, :size])
    expected[[0, 3]] = 0
    return [(wide(out), expected)]


@reference(pair_transposed, sizes=(2, 4, 6), reason="an even number of panels", tolerance=0)
def pair_transposed_case(size: int) -> Pairs:
    """The second 16 inputs of a matrix of `size` panels, as pairs of outputs."""
    weight = stored(normal(numpy.random.default_rng(size), size * LANES, 3 * LANES), Number.BFLOAT16)
    panels, out = to_panels(weight), numpy.zeros((size * LANES // 2, LANES, 2), numpy.uint16)
    pair_transposed(panels.ctypes.data, panels.strides[0], size, 1, out.ctypes.data)
    return [(wide(out), wide(in_pairs(weight[:, LANES : 2 * LANES])))]


def operands(rows: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Rounded rows in the memory of whole 16, a weight, an addend, and the exact product."""
    random = numpy.random.default_rng(rows)
    x = numpy.zeros((-(-rows // LANES) * LANES, LENGTH), numpy.uint16)
    x[:rows] = to_bfloat16(normal(random, rows, LENGTH))
    weight = stored(normal(random, PANELS * LANES, LENGTH), Number.BFLOAT16)
    return x, weight, normal(random, rows, PANELS * LANES), wide(x[:rows]) @ wide(weight).T


@reference(multiply_pairs, vector_panel)
def multiply_pairs_case(size: int) -> Pairs:
    """`size` rows with the second panel."""
    x, weight, addend, exact = operands(size)
    panel, here = in_pairs(to_panels(weight)[1]), slice(LANES, 2 * LANES)
    out, scratch = numpy.zeros((size, LANES), numpy.float32), numpy.zeros(AMX_SCRATCH, numpy.uint8)
    place = out.ctypes.data, out.strides[0]
    source = x.ctypes.data, panel.ctypes.data, LENGTH
    pairs = []
    for add, adds in ((0, 0), (addend[:, here].ctypes.data, addend.strides[0])):
        multiply_pairs(int(DotUnit.VECTOR), size, *source, *place, add, adds, scratch.ctypes.data)
        pairs.append((out.copy(), exact[:, here] + (addend[:, here] if add else 0)))
    return pairs


@reference(multiply_rounded)
def multiply_rounded_case(size: int) -> Pairs:
    """`size` rows with three panels; what is beside the result stays."""
    x, weight, addend, exact = operands(size)
    panels, out = to_panels(weight), normal(numpy.random.default_rng(1), size, PANELS * LANES + 3)
    beside, scratch = out[:, PANELS * LANES :].copy(), numpy.zeros(dot_scratch(LENGTH), numpy.uint8)
    source = x.ctypes.data, panels.ctypes.data, LENGTH, PANELS
    place = out.ctypes.data, out.strides[0], addend.ctypes.data, addend.strides[0], scratch.ctypes.data
    multiply_rounded(int(DotUnit.VECTOR), size, *source, *place)
    assert dot_scratch(LENGTH) == LENGTH // 2 * PAIR_ROW_BYTES + AMX_SCRATCH
    return [(out[:, : PANELS * LANES], exact + addend), (out[:, PANELS * LANES :], wide(beside))]
