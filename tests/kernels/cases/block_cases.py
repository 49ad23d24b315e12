"""Cases of matrices in blocks of 8, 4 and 6 bits: products in registers and through memory."""

import numpy
from tests.kernels.blocks import BLOCK_KINDS, Bytes, eight_bits, four_bits, random_blocks
from tests.kernels.reference import KINDS, Floats, Pairs, Record, normal, reference, stored, wide

from tunesmith.kernels import quantised, rounding, widths
from tunesmith.kernels.vectors import LANES, Number

PANELS, INS = 7, 512
ROWS = (1, 2, 3, quantised.FEW_ROWS, 9, quantised.PACKED_ROWS + 1, 23)


def widened(kind: Number, panels: Bytes, ins: int) -> Floats:
    """The panels [panels, ins, 16] in float32, as the kernels make them."""
    out = numpy.zeros((len(panels), ins, LANES), numpy.float32)
    for panel, target in zip(panels, out, strict=True):
        widths.widen(int(kind), panel.ctypes.data, target.ctypes.data, ins)
    return out


def product(kind: int, x: Floats, panels: Floats, addend: Floats | None = None) -> Floats:
    rows, ins = x.shape
    out = numpy.zeros((rows, len(panels) * LANES), numpy.float32)
    scratch = numpy.full(quantised.scratch_bytes(ins, rows), 77, numpy.uint8)
    add = (0, 0) if addend is None else (addend.ctypes.data, addend.strides[0])
    operands = x.ctypes.data, x.strides[0], panels.ctypes.data, ins, len(panels), out.ctypes.data, out.strides[0]
    quantised.multiply_frozen(int(kind), rows, *operands, *add, scratch.ctypes.data)
    return out


@reference(quantised.multiply_frozen, sizes=ROWS, reason="rows: those in registers, and more; blocks are whole")
def multiply_frozen_case(rows: int) -> Pairs:
    """With the bits of a float32 copy of the weight, but of 4 bits; the same alone and beside any other rows."""
    pairs: list[tuple[Floats, Floats]] = []
    for kind in BLOCK_KINDS:
        random = numpy.random.default_rng(rows)
        panels, weight = random_blocks(random, kind, PANELS * LANES, INS)
        x, beside = normal(random, rows, INS), normal(random, rows, PANELS * LANES)
        got, copy = product(kind, x, panels, beside), widened(kind, panels, INS)
        assert kind == Number.INT4 or numpy.array_equal(got, product(Number.FLOAT32, x, copy, beside))
        assert numpy.array_equal(got[-1:], product(kind, x[-1:], panels, beside[-1:]))
        pairs.append((got, wide(x) @ wide(weight).T + beside))
        pairs.append((product(kind, x, panels[1:]), wide(x) @ wide(weight[LANES:]).T))
    return pairs


@reference(
    rounding.round_panels,
    rounding.read_panels,
    sizes=(1, 2, 3),
    reason="panels; outputs and inputs fill whole blocks",
)
def round_panels_case(panels: int) -> Pairs:
    """Weights in all formats, of sizes far apart, to 8 and 4 bits and back."""
    pairs: list[tuple[Floats, Floats]] = []
    for kind, expected in {Number.INT8: eight_bits, Number.INT4: four_bits}.items() if BLOCK_KINDS else ():
        for source_kind in KINDS:
            random = numpy.random.default_rng(panels)
            weight = normal(random, panels * LANES, INS) * random.random((panels * LANES, 1), numpy.float32)
            weight[0, :32] = 0
            weight = stored(weight, source_kind)
            args = Record(rounding.ROUND_ARGS, source=weight, source_kind=int(source_kind), panels=panels, inputs=INS)
            blocks = numpy.full(panels * widths.panel_bytes(int(kind), INS), 77, numpy.uint8)
            args.set(target=blocks, target_kind=int(kind), scratch=numpy.zeros((panels, INS, LANES), numpy.float32))
            rounding.round_panels(args.rows)
            args.set(scratch=numpy.zeros((panels, INS, LANES), numpy.float32))
            rounding.read_panels(args.rows)
            got, given = args["scratch"].transpose(0, 2, 1).reshape(weight.shape), wide(weight)
            pairs.append((got, _or_as_near(got, wide(expected(given.astype(numpy.float32))), given)))
    return pairs


def _or_as_near(got: Floats, expected: Floats, given: Floats) -> Floats:
    """What is expected; a weight in the middle between two steps of 4 bits may go to either."""
    return numpy.where(numpy.abs(got - given) < numpy.abs(expected - given) * (1 + 1e-4), got, expected)
