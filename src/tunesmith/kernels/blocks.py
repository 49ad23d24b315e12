"""Blocks of quantised numbers in panels, as LLVM code.

A panel [length, 16] of quantised numbers is a sequence of blocks of its inputs; each of the 16 outputs has scales of
its own, as in GGUF's blocks, which are these with the outputs apart. A weight is made in float32 by the formula of
GGUF's dequantisation, in registers or in memory by the same code, so a product has the bits of one with the weights
that `panel_widener` writes.

    INT8, of Q8_0: 32 inputs                        w = d * q
        d  [16] float16
        q  [32, 16] int8
    INT4, of Q4_K: 8 sub-blocks of 32 inputs        w = (d * scale) * q - dmin * least, the last two rounded once
        d, dmin  [16] float16 each
        scale, least  [8, 16] uint8 each, below 64
        q  [8, 4, 16] uint32: eight neighbouring inputs, 4 bits each, the first in the lowest
    INT6, of all K formats: 16 sub-blocks of 16     w = (d * scale) * q - dmin * least, the last two rounded once
        d, dmin  [16] float16 each
        scale, least  [16, 16] int8 each
        q  [256, 16] int8

Reading 4 bits without moving them: those of the input k in the eight, masked, are q * 16^k, and are multiplied with
scale / 16^k, which is exact.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llvmlite import ir
from numba.core import cgutils

from tunesmith.kernels.intrinsics import prefetch_line
from tunesmith.kernels.tiles import PREFETCH_BYTES, panel_widener, product_tile, stored_numbers
from tunesmith.kernels.vectors import (
    BYTE,
    BYTES,
    FLOATS,
    HALVES,
    HAS_HALF,
    I64,
    INTEGERS,
    LANES,
    Number,
    at,
    constant,
    multiply_add,
    square_transposer,
    transposer,
)

if TYPE_CHECKING:
    from tunesmith.kernels.intrinsics import Values
    from tunesmith.kernels.tiles import Emit, TileFunction, Walk

SUBBLOCK_INPUTS = {Number.INT8: 32, Number.INT4: 32, Number.INT6: 16}  # that share a scale
BLOCK_SUBBLOCKS = {Number.INT8: 1, Number.INT4: 8, Number.INT6: 16}
BLOCK_INPUTS = {number: SUBBLOCK_INPUTS[number] * subblocks for number, subblocks in BLOCK_SUBBLOCKS.items()}
HEADER_BYTES = {Number.INT8: 2 * LANES, Number.INT4: (4 + 16) * LANES, Number.INT6: (4 + 32) * LANES}
SQUARE_BYTES = {Number.INT8: 16 * LANES, Number.INT4: 8 * LANES, Number.INT6: 16 * LANES}  # of 16 inputs
BLOCK_BYTES = {
    number: header + BLOCK_INPUTS[number] // LANES * SQUARE_BYTES[number] for number, header in HEADER_BYTES.items()
}
GROUP = 8  # inputs whose 4 bits are in one number
_LINE = 64


@dataclass(frozen=True, slots=True)
class Subblock:
    """What the weights of a sub-block of one panel are made of."""

    numbers: ir.Value  # where they begin
    header_ahead: ir.Value  # what to prefetch with them
    scale: ir.Value
    least: ir.Value | None = None  # of INT4 and INT6: what is added
    scales: tuple[ir.Value, ...] = ()  # of INT4: by the place in a group


def block_tile(rows: int, panels: int, number: Number) -> "TileFunction":
    """As `product_tile`, for panels of blocks.

    `length` is a multiple of the format's BLOCK_INPUTS. Code for float32, which is never called, on a processor without
    float16, which scales are in.
    """
    return product_tile(rows, panels, _blocks(number) if HAS_HALF else stored_numbers(Number.FLOAT32))


def block_widener(number: Number) -> Callable[[int, int, int], None]:
    """As `panel_widener`, for panels of whole blocks."""
    return panel_widener(_blocks(number) if HAS_HALF else stored_numbers(Number.FLOAT32))


def block_transposer(number: Number) -> Callable[[int, int, int], None]:
    """Transposes 16 inputs of a panel into float32.

    Called with (the panel's address, which 16, target); the target is contiguous.
    """
    if not HAS_HALF:
        return transposer(Number.FLOAT32)  # never called

    def rows_of(builder: ir.IRBuilder, panel: ir.Value, which: ir.Value) -> "Values":
        squares = ir.Constant(I64, SUBBLOCK_INPUTS[number] // LANES)
        place = builder.inttoptr(panel, BYTE.as_pointer())
        subblock = subblock_of(builder, number, place, builder.udiv(which, squares))
        return [*_square(builder, number, subblock, builder.urem(which, squares))]

    return square_transposer(rows_of)


def _blocks(number: Number) -> "Walk":
    """What walks through panels of blocks."""
    line_inputs = LANES * _LINE // SQUARE_BYTES[number]

    def walk(builder: ir.IRBuilder, panels: "Values", length: ir.Value, w_step: ir.Value | None, emit: "Emit") -> None:
        inputs = SUBBLOCK_INPUTS[number]
        with cgutils.for_range(builder, builder.udiv(length, ir.Constant(I64, inputs)), intp=I64) as loop:
            subblocks = [subblock_of(builder, number, panel, loop.index) for panel in panels]
            for subblock in subblocks:
                prefetch_header(builder, subblock)
            first = builder.mul(loop.index, ir.Constant(I64, inputs))
            with cgutils.for_range(builder, ir.Constant(I64, inputs // LANES), intp=I64) as square:
                begin = builder.add(first, builder.mul(square.index, ir.Constant(I64, LANES)))
                weights = zip(
                    *(_square(builder, number, subblock, square.index) for subblock in subblocks), strict=True
                )
                for index, of_one in enumerate(weights):
                    if index % line_inputs == 0:
                        for subblock in subblocks:
                            here = _plus(builder, subblock.numbers, square.index, SQUARE_BYTES[number])
                            prefetch_numbers(builder, at(builder, here, index // line_inputs * _LINE))
                    emit(builder.add(begin, ir.Constant(I64, index)), [*of_one])

    return walk


def prefetch_header(builder: ir.IRBuilder, subblock: Subblock) -> None:
    """Asks for this sub-block's share of the header of a block ahead."""
    prefetch_line(builder, subblock.header_ahead)


def prefetch_numbers(builder: ir.IRBuilder, place: ir.Value) -> None:
    """Asks for a line of numbers ahead.

    One where a line is read: asked for all at once, those of a sub-block would wait for each other.
    """
    prefetch_line(builder, at(builder, place, PREFETCH_BYTES))


def subblock_of(builder: ir.IRBuilder, number: Number, panel: ir.Value, index: ir.Value) -> Subblock:
    """What the weights of the sub-block `index` of a panel are made of."""
    subblocks = ir.Constant(I64, BLOCK_SUBBLOCKS[number])
    block, place = (
        _plus(builder, panel, builder.udiv(index, subblocks), BLOCK_BYTES[number]),
        builder.urem(index, subblocks),
    )
    size = SQUARE_BYTES[number] * SUBBLOCK_INPUTS[number] // LANES
    numbers = _plus(builder, at(builder, block, HEADER_BYTES[number]), place, size)
    next_header = at(builder, block, -(-PREFETCH_BYTES // BLOCK_BYTES[number]) * BLOCK_BYTES[number])
    ahead = _plus(builder, next_header, place, HEADER_BYTES[number] // BLOCK_SUBBLOCKS[number])
    factor = _half(builder, block)
    if number == Number.INT8:
        return Subblock(numbers, ahead, factor)
    places = (4, 4 + BLOCK_SUBBLOCKS[number])
    scale, least = (_plus(builder, at(builder, block, first * LANES), place, LANES) for first in places)
    scale = builder.fmul(factor, _signed(builder, scale))
    least = builder.fmul(_half(builder, at(builder, block, 2 * LANES)), _signed(builder, least))
    if number == Number.INT6:
        return Subblock(numbers, ahead, scale, builder.fneg(least))
    scales = [builder.fmul(scale, constant(16.0**-index)) for index in range(GROUP - 1)]
    return Subblock(numbers, ahead, scale, builder.fneg(least), (*scales, scale))


def _square(builder: ir.IRBuilder, number: Number, subblock: Subblock, index: ir.Value) -> Iterator[ir.Value]:
    """The weights of 16 inputs, one vector each."""
    here = _plus(builder, subblock.numbers, index, SQUARE_BYTES[number])
    if number != Number.INT4:
        for row in range(LANES):
            q = _signed(builder, at(builder, here, row * LANES))
            least = subblock.least
            yield builder.fmul(subblock.scale, q) if least is None else multiply_add(builder, q, subblock.scale, least)
        return
    for group in range(LANES // GROUP):
        numbers = eight_numbers(builder, at(builder, here, group * 4 * LANES))
        for value, scale in zip(numbers, subblock.scales, strict=True):
            yield multiply_add(builder, value, scale, subblock.least)


def eight_numbers(builder: ir.IRBuilder, place: ir.Value) -> Iterator[ir.Value]:
    """The eight inputs of 4 bits at an address.

    Of the input k q * 16^k, but q of the last one.
    """
    eight = builder.load(builder.bitcast(place, INTEGERS.as_pointer()), align=4)
    for index in range(GROUP - 1):
        bits = builder.and_(eight, ir.Constant(INTEGERS, [15 << 4 * index] * LANES))
        yield builder.sitofp(bits, FLOATS)
    yield builder.sitofp(builder.lshr(eight, ir.Constant(INTEGERS, [4 * (GROUP - 1)] * LANES)), FLOATS)


def _plus(builder: ir.IRBuilder, place: ir.Value, index: ir.Value, size: int) -> ir.Value:
    return builder.gep(place, [builder.mul(index, ir.Constant(I64, size))])


def _half(builder: ir.IRBuilder, place: ir.Value) -> ir.Value:
    return builder.fpext(builder.load(builder.bitcast(place, HALVES.as_pointer()), align=2), FLOATS)


def _signed(builder: ir.IRBuilder, place: ir.Value) -> ir.Value:
    loaded = builder.load(builder.bitcast(place, BYTES.as_pointer()), align=1)
    return builder.sitofp(builder.sext(loaded, INTEGERS), FLOATS)
