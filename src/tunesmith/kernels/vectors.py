"""Vectors of 16 numbers as LLVM code: stored, read, combined and transposed.

A vector of LLVM becomes whatever the processor has: one register with AVX-512, two with AVX2, four with NEON.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, cast

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features, get_host_cpu_name
from numba import config, types
from numba.core import cgutils

from tunesmith.kernels.intrinsics import intrinsic, of_addresses

if TYPE_CHECKING:
    from tunesmith.kernels.intrinsics import Values

LANES = 16  # numbers of a vector, and of a row of a panel
FLOAT_BYTES = 4
PANEL_ROW_BYTES = LANES * FLOAT_BYTES  # of a float32 panel, and of its columns in a product


class Number(IntEnum):
    """The formats of a frozen matrix's numbers.

    Those of 16 bits become float32 without rounding, and so do quantised ones: what they stand for is a float32.
    """

    FLOAT32 = 0
    FLOAT16 = 1
    BFLOAT16 = 2  # the first half of a float32
    INT8 = 3  # this and the next: blocks, as `blocks` lays them out
    INT4 = 4
    INT6 = 5


QUANTISED = Number.INT8  # this and what follows
STORED_BYTES = {Number.FLOAT32: FLOAT_BYTES, Number.FLOAT16: 2, Number.BFLOAT16: 2}

I64, I32, BYTE, F32 = ir.IntType(64), ir.IntType(32), ir.IntType(8), ir.FloatType()
FLOATS, HALVES = ir.VectorType(F32, LANES), ir.VectorType(ir.HalfType(), LANES)
INTEGERS, BYTES = ir.VectorType(I32, LANES), ir.VectorType(BYTE, LANES)
_STORED = {Number.FLOAT32: F32, Number.FLOAT16: ir.HalfType(), Number.BFLOAT16: ir.IntType(16)}


def features() -> frozenset[str]:
    """The name and features of the processor that code is compiled for."""
    if config.CPU_NAME or config.CPU_FEATURES:  # another than this one, as in tests
        named = (name[1:] for name in (config.CPU_FEATURES or "").split(",") if name.startswith("+"))
        return frozenset({config.CPU_NAME or "", *named})
    return frozenset({get_host_cpu_name(), *(name for name, present in get_host_cpu_features().items() if present)})


HAS_HALF = bool(features() & {"f16c", "avx512f", "neon", "fullfp16"})  # the processor converts float16


def readable(number: Number) -> Number:
    """The format itself.

    FLOAT32 for float16 on a processor without it, where code for it is never called.
    """
    return Number.FLOAT32 if number == Number.FLOAT16 and not HAS_HALF else number


def load_numbers(builder: ir.IRBuilder, place: ir.Value, number: Number = Number.FLOAT32) -> ir.Value:
    """The 16 numbers at an address, in float32."""
    stored = ir.VectorType(_STORED[number], LANES)
    loaded = builder.load(builder.bitcast(place, stored.as_pointer()), align=STORED_BYTES[number])
    if number == Number.FLOAT16:
        return builder.fpext(loaded, FLOATS)
    if number == Number.BFLOAT16:
        sixteen = ir.Constant(INTEGERS, [16] * LANES)
        return builder.bitcast(builder.shl(builder.zext(loaded, INTEGERS), sixteen), FLOATS)
    return loaded


def store_numbers(builder: ir.IRBuilder, numbers: ir.Value, place: ir.Value, number: Number = Number.FLOAT32) -> None:
    """Writes 16 float32 numbers to an address.

    They are rounded to float16, and cut off to bfloat16.
    """
    if number == Number.FLOAT16:
        numbers = builder.fptrunc(numbers, HALVES)
    elif number == Number.BFLOAT16:
        words = builder.lshr(builder.bitcast(numbers, INTEGERS), ir.Constant(INTEGERS, [16] * LANES))
        numbers = builder.trunc(words, ir.VectorType(_STORED[number], LANES))
    builder.store(numbers, builder.bitcast(place, numbers.type.as_pointer()), align=STORED_BYTES[number])


def constant(number: float) -> ir.Value:
    """16 times the same float32 number."""
    return ir.Constant(FLOATS, [number] * LANES)


def broadcast(builder: ir.IRBuilder, number: ir.Value) -> ir.Value:
    """16 times the same number, or word."""
    undefined = ir.Constant(ir.VectorType(number.type, LANES), ir.Undefined)
    first = builder.insert_element(undefined, number, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(INTEGERS, [0] * LANES))


def multiply_add(builder: ir.IRBuilder, one: ir.Value, other: ir.Value, addend: ir.Value) -> ir.Value:
    """one * other + addend, rounded once where the processor can."""
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(FLOATS, [FLOATS] * 3), f"llvm.fmuladd.v{LANES}f32"
    )
    return builder.call(function, [one, other, addend])


def at(builder: ir.IRBuilder, place: ir.Value, offset: int) -> ir.Value:
    """So many bytes behind a place."""
    return builder.gep(place, [ir.Constant(I64, offset)])


def at_row(
    builder: ir.IRBuilder, base: ir.Value, stride: ir.Value, index: int, kind: ir.Type, panel: int = 0
) -> ir.Value:
    """The address of row `index`, as a pointer to `kind`.

    Further on by `panel` rows of panels.
    """
    offset = builder.add(builder.mul(stride, ir.Constant(I64, index)), ir.Constant(I64, panel * PANEL_ROW_BYTES))
    return builder.inttoptr(builder.add(base, offset), kind.as_pointer())


def transposed(builder: ir.IRBuilder, rows: list[ir.Value]) -> list[ir.Value]:
    """The rows of 16 numbers transposed, in four rounds.

    Each round swaps halves of blocks twice as wide as those of the round before.
    """
    width = 1
    while width < LANES:
        lower = [lane if not lane & width else lane + LANES - width for lane in range(LANES)]
        upper = [lane + width if not lane & width else lane + LANES for lane in range(LANES)]
        before, rows = rows, list(rows)
        for row in range(LANES):
            if not row & width:
                pair = before[row], before[row + width]
                rows[row], rows[row + width] = (_shuffled(builder, *pair, lanes) for lanes in (lower, upper))
        width *= 2
    return rows


def _shuffled(builder: ir.IRBuilder, one: ir.Value, other: ir.Value, lanes: list[int]) -> ir.Value:
    return builder.shuffle_vector(one, other, ir.Constant(INTEGERS, lanes))


def transposer(number: Number) -> Callable[[int, int, int], None]:
    """Transposes 16 x 16 numbers of a format, into float32.

    Called with (source, source_stride in bytes, target); the target is contiguous.
    """

    def rows_of(builder: ir.IRBuilder, source: ir.Value, stride: ir.Value) -> "Values":
        places = (at_row(builder, source, stride, row, BYTE) for row in range(LANES))
        return [load_numbers(builder, place, readable(number)) for place in places]

    return square_transposer(rows_of)


def square_transposer(
    rows_of: "Callable[[ir.IRBuilder, ir.Value, ir.Value], Values]",
) -> Callable[[int, int, int], None]:
    """Transposes 16 x 16 numbers into float32, contiguous at the third argument.

    `rows_of` emits what loads them from the first two.
    """

    def into_float32(builder: ir.IRBuilder, arguments: "Values") -> None:
        source, which, target = arguments
        for index, row in enumerate(transposed(builder, [*rows_of(builder, source, which)])):
            store_numbers(builder, row, at_row(builder, target, ir.Constant(I64, PANEL_ROW_BYTES), index, BYTE))

    return cast(Callable[[int, int, int], None], of_addresses(3, into_float32))


def reader(number: Number) -> Callable[[int], float]:
    """Reads one number of a format, in float32."""
    kind = readable(number)

    def read(builder: ir.IRBuilder, arguments: "Values") -> ir.Value:
        loaded = builder.load(builder.inttoptr(arguments[0], _STORED[kind].as_pointer()), align=STORED_BYTES[kind])
        if kind == Number.FLOAT16:
            return builder.fpext(loaded, F32)
        if kind == Number.BFLOAT16:
            return builder.bitcast(builder.shl(builder.zext(loaded, I32), ir.Constant(I32, 16)), F32)
        return loaded

    return cast(Callable[[int], float], intrinsic(types.float32(types.intp), read))


def _no_inline(builder: ir.IRBuilder, _: "Values") -> None:
    builder.function.attributes.add("noinline")


no_inline = cast(Callable[[], None], of_addresses(0, _no_inline))
"""Called within a function, keeps it from being inlined, so that it is compiled once and not into every caller."""
