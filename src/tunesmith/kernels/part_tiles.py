"""Tiles of products with blocks of 4 bits.

A weight is step * q - shift, and both are the same for the 32 inputs of a part, so a sum over a part is
step * sum(q * x) - shift * sum(x): one multiplication and addition a weight. Sums of a part run in order, and so do the
parts'; `rows`, panels and where the numbers come from change no bit:

    packed     of blocks, for a few rows: x is scaled (`input_sums`), since bits are not moved to the right
    unpacked   of `unpack_four_bits`, for many: parts of 34 rows of 16 numbers, steps, shifts below 0, then 32 of q
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tunesmith.kernels.blocks import GROUP, PART_INPUTS, eight_numbers, part_of
from tunesmith.kernels.vectors import HAS_HALF, LANES, PANEL_ROW_BYTES, Number, at_row, broadcast, multiply_add

if TYPE_CHECKING:
    from tunesmith.kernels.vectors import Values

    NumbaObject: TypeAlias = Any  # Numba's own objects, which are untyped
    _Part: TypeAlias = tuple[ir.Value, ir.Value, Callable[[ir.Value], Iterator[ir.Value]]]

PART = PART_INPUTS[Number.INT4]
SCALES = [*(16.0**-index for index in range(GROUP - 1)), 1.0]  # of x, by the place in a group
UNPACKED_ROWS = PART + 2  # of a part: its steps, its shifts, and the numbers
PartTile: TypeAlias = Callable[[int, int, int, int, int, int, int, int, int, int, int], None]

_I64, _F32, _BYTE = ir.IntType(64), ir.FloatType(), ir.IntType(8)
_VECTOR = ir.VectorType(_F32, LANES)


def part_tile(rows: int, panels: int, *, packed: bool) -> PartTile:
    """The product of `rows` rows with `panels` panels, for compiled code.

    Called with (x, x_stride, sums, sums_stride, w, panel_stride, length, out, out_stride, addend, addend_stride), where
    `sums` [rows, length / 32] are those of x's parts; the rest as for `vectors.product_tile`.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def product(
        typing: "NumbaObject",
        x: "NumbaObject",
        x_stride: "NumbaObject",
        sums: "NumbaObject",
        sums_stride: "NumbaObject",
        w: "NumbaObject",
        panel_stride: "NumbaObject",
        length: "NumbaObject",
        out: "NumbaObject",
        out_stride: "NumbaObject",
        addend: "NumbaObject",
        addend_stride: "NumbaObject",
    ) -> "NumbaObject":
        def make(
            context: "NumbaObject", builder: ir.IRBuilder, signature: "NumbaObject", arguments: "Values"
        ) -> ir.Value:
            if HAS_HALF:  # else it is never called
                _tile(builder, arguments, rows, panels, packed=packed)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 11), make

    return cast(PartTile, product)


def _tile(builder: ir.IRBuilder, arguments: "Values", rows: int, panels: int, *, packed: bool) -> None:
    x, x_stride, sums, sums_stride, w, panel_stride, length, out, out_stride, addend, addend_stride = arguments
    zero = ir.Constant(_VECTOR, [0.0] * LANES)
    places = [(row, panel) for row in range(rows) for panel in range(panels)]
    totals = {place: cgutils.alloca_once_value(builder, zero) for place in places}
    of_part = {place: cgutils.alloca_once(builder, _VECTOR) for place in places}
    x_rows = [at_row(builder, x, x_stride, row, _F32) for row in range(rows)]
    sum_rows = [at_row(builder, sums, sums_stride, row, _F32) for row in range(rows)]
    w_panels = [at_row(builder, w, panel_stride, panel, _BYTE) for panel in range(panels)]
    with cgutils.for_range(builder, builder.udiv(length, ir.Constant(_I64, PART)), intp=_I64) as loop:
        parts = [(_packed if packed else _unpacked)(builder, panel, loop.index) for panel in w_panels]
        for place in places:
            builder.store(zero, of_part[place])
        with cgutils.for_range(builder, ir.Constant(_I64, PART // GROUP), intp=_I64) as group:
            first = builder.add(
                builder.mul(loop.index, ir.Constant(_I64, PART)), builder.mul(group.index, ir.Constant(_I64, GROUP))
            )
            numbers = [values(group.index) for _, _, values in parts]
            for index in range(GROUP):
                values = [next(of_panel) for of_panel in numbers]
                for row, x_row in enumerate(x_rows):
                    here = builder.gep(x_row, [builder.add(first, ir.Constant(_I64, index))])
                    factor = broadcast(builder, builder.load(here, align=4))
                    for panel, value in enumerate(values):
                        total = of_part[row, panel]
                        builder.store(multiply_add(builder, value, factor, builder.load(total)), total)
        for row, panel in places:
            step, shift, _ = parts[panel]
            sum_of = broadcast(builder, builder.load(builder.gep(sum_rows[row], [loop.index]), align=4))
            total = multiply_add(builder, step, builder.load(of_part[row, panel]), builder.load(totals[row, panel]))
            builder.store(multiply_add(builder, shift, sum_of, total), totals[row, panel])
    with builder.if_then(builder.icmp_signed("!=", addend, ir.Constant(_I64, 0))):
        for row, panel in places:
            other = builder.bitcast(at_row(builder, addend, addend_stride, row, _F32, panel), _VECTOR.as_pointer())
            total = builder.fadd(builder.load(totals[row, panel]), builder.load(other, align=4))
            builder.store(total, totals[row, panel])
    for row, panel in places:
        target = builder.bitcast(at_row(builder, out, out_stride, row, _F32, panel), _VECTOR.as_pointer())
        builder.store(builder.load(totals[row, panel]), target, align=4)


def input_sums(*, scaled: bool) -> Callable[[int, int, int, int], None]:
    """Makes the sums of the parts of one row.

    With `scaled` also the row as packed tiles read it. Called with (x, sums, the scaled row or 0, length).
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def made(
        typing: "NumbaObject", x: "NumbaObject", sums: "NumbaObject", row: "NumbaObject", length: "NumbaObject"
    ) -> "NumbaObject":
        def make(
            context: "NumbaObject", builder: ir.IRBuilder, signature: "NumbaObject", arguments: "Values"
        ) -> ir.Value:
            source, target, row = (builder.inttoptr(place, _F32.as_pointer()) for place in arguments[:3])
            factors = ir.Constant(_VECTOR, [*SCALES, *SCALES])
            with cgutils.for_range(builder, builder.udiv(arguments[3], ir.Constant(_I64, PART)), intp=_I64) as loop:
                first = builder.mul(loop.index, ir.Constant(_I64, PART))
                places = [builder.add(first, ir.Constant(_I64, half)) for half in (0, LANES)]
                halves = [_load(builder, builder.gep(source, [place])) for place in places]
                builder.store(_total(builder, builder.fadd(*halves)), builder.gep(target, [loop.index]))
                for place, half in zip(places, halves, strict=True) if scaled else ():
                    there = builder.bitcast(builder.gep(row, [place]), _VECTOR.as_pointer())
                    builder.store(builder.fmul(half, factors), there, align=4)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 4), make

    return cast(Callable[[int, int, int, int], None], made)


def _total(builder: ir.IRBuilder, vector: ir.Value) -> ir.Value:
    """The sum of the 16 numbers, of which neighbours further and further apart are added."""
    width = LANES // 2
    while width:
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [(lane + width) % LANES for lane in range(LANES)])
        vector = builder.fadd(vector, builder.shuffle_vector(vector, ir.Constant(_VECTOR, ir.Undefined), lanes))
        width //= 2
    return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))


@intrinsic  # type: ignore[untyped-decorator]
def _unpack(typing: "NumbaObject", panel: "NumbaObject", target: "NumbaObject", length: "NumbaObject") -> "NumbaObject":
    def make(context: "NumbaObject", builder: ir.IRBuilder, signature: "NumbaObject", arguments: "Values") -> ir.Value:
        if not HAS_HALF:  # then it is never called
            return context.get_dummy_value()
        source, there = (builder.inttoptr(place, _BYTE.as_pointer()) for place in arguments[:2])
        with cgutils.for_range(builder, builder.udiv(arguments[2], ir.Constant(_I64, PART)), intp=_I64) as loop:
            target = builder.gep(there, [builder.mul(loop.index, ir.Constant(_I64, UNPACKED_ROWS * PANEL_ROW_BYTES))])
            step, shift, numbers = _packed(builder, source, loop.index)
            values = [value for group in range(PART // GROUP) for value in numbers(ir.Constant(_I64, group))]
            moved = [
                builder.fmul(value, ir.Constant(_VECTOR, [SCALES[index % GROUP]] * LANES))
                for index, value in enumerate(values)
            ]
            for index, row in enumerate((step, shift, *moved)):
                place = builder.gep(target, [ir.Constant(_I64, index * PANEL_ROW_BYTES)])
                builder.store(row, builder.bitcast(place, _VECTOR.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 3), make


unpack_four_bits = cast(Callable[[int, int, int], None], _unpack)
"""Writes a panel of blocks as unpacked tiles read it: (panel, target, length)."""


def _packed(builder: ir.IRBuilder, panel: ir.Value, index: ir.Value) -> "_Part":
    part = part_of(builder, Number.INT4, panel, index)

    def numbers(group: ir.Value) -> Iterator[ir.Value]:
        """Of the input k of the group q * 16^k, but the last one's."""
        yield from eight_numbers(builder, builder.gep(part.numbers, [builder.mul(group, ir.Constant(_I64, 4 * LANES))]))

    return part.scale, cast(ir.Value, part.least), numbers


def _unpacked(builder: ir.IRBuilder, panel: ir.Value, index: ir.Value) -> "_Part":
    size = UNPACKED_ROWS * PANEL_ROW_BYTES
    rows = [
        builder.gep(panel, [builder.add(builder.mul(index, ir.Constant(_I64, size)), ir.Constant(_I64, first))])
        for first in (0, PANEL_ROW_BYTES, 2 * PANEL_ROW_BYTES)
    ]

    def numbers(group: ir.Value) -> Iterator[ir.Value]:
        here = builder.gep(rows[2], [builder.mul(group, ir.Constant(_I64, GROUP * PANEL_ROW_BYTES))])
        for place in range(GROUP):
            yield _load(builder, builder.gep(here, [ir.Constant(_I64, place * PANEL_ROW_BYTES)]))

    return _load(builder, rows[0]), _load(builder, rows[1]), numbers


def _load(builder: ir.IRBuilder, place: ir.Value) -> ir.Value:
    return builder.load(builder.bitcast(place, _VECTOR.as_pointer()), align=4)
