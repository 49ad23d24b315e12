"""Building blocks that Python cannot express.

Tiles of a matrix product in registers, addresses, atomic counters. They are written with LLVM's vectors of 16 numbers,
which become whatever the processor has: one register with AVX-512, two with AVX2, four with NEON. A tile keeps its sums
in registers over the whole length, adding in order, so that each result has the same bits whatever else is computed
with it.
"""

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features, get_host_cpu_name
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

if TYPE_CHECKING:
    NumbaObject: TypeAlias = Any  # Numba's own objects, which are untyped
    Values: TypeAlias = Sequence[ir.Value]
    Emit: TypeAlias = Callable[[ir.Value, Values], None]
    Walk: TypeAlias = Callable[[ir.IRBuilder, Values, ir.Value, ir.Value | None, Emit], None]

LANES = 16  # numbers of a vector, and of a row of a panel
FLOAT_BYTES = 4
PANEL_ROW_BYTES = LANES * FLOAT_BYTES  # of a float32 panel, and of its columns in a product
PREFETCH_BYTES = 2048  # how far ahead a panel is prefetched: the hardware prefetches within a page only
TileFunction: TypeAlias = Callable[[int, int, int, int, int, int, int, int, int, int, int], None]


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


_I64, _I32, _I16, _BYTE = ir.IntType(64), ir.IntType(32), ir.IntType(16), ir.IntType(8)
_F32 = ir.FloatType()
_VECTOR, _INTEGERS = ir.VectorType(_F32, LANES), ir.VectorType(_I32, LANES)
_STORED = {Number.FLOAT32: _F32, Number.FLOAT16: ir.HalfType(), Number.BFLOAT16: _I16}
_BYTES = {Number.FLOAT32: FLOAT_BYTES, Number.FLOAT16: 2, Number.BFLOAT16: 2}


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


def tile(rows: int, panels: int, number: Number = Number.FLOAT32, *, strided: bool = False) -> TileFunction:
    """A `product_tile` of panels of numbers that are stored one by one."""
    return product_tile(rows, panels, stored_numbers(readable(number)), strided=strided)


def product_tile(rows: int, panels: int, walk: "Walk", *, strided: bool = False) -> TileFunction:
    """The product of `rows` rows with `panels` panels, for compiled code.

    Called with (x, x_stride, x_step, w, panel_stride, w_step, length, out, out_stride, addend, addend_stride):
    addresses, and distances in bytes: from row to row, from panel to panel, and from one term of a sum to the next. The
    steps are used with `strided` only; without it x's rows are contiguous and `w` holds panels [length, 16]. `addend`
    0: nothing is added. `walk` builds the loop over the weights: it gets the panels' addresses, `length`, `w_step`
    (None where it is not used) and what to call with each input's place and the panels' weights of it, in order.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def product(
        typing: "NumbaObject",
        x: "NumbaObject",
        x_stride: "NumbaObject",
        x_step: "NumbaObject",
        w: "NumbaObject",
        panel_stride: "NumbaObject",
        w_step: "NumbaObject",
        length: "NumbaObject",
        out: "NumbaObject",
        out_stride: "NumbaObject",
        addend: "NumbaObject",
        addend_stride: "NumbaObject",
    ) -> "NumbaObject":
        def make(
            context: "NumbaObject", builder: ir.IRBuilder, signature: "NumbaObject", arguments: "Values"
        ) -> ir.Value:
            _tile(builder, arguments, rows, panels, walk, strided=strided)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 11), make

    return cast(TileFunction, product)


def _tile(builder: ir.IRBuilder, arguments: "Values", rows: int, panels: int, walk: "Walk", *, strided: bool) -> None:
    x, x_stride, x_step, w, panel_stride, w_step, length, out, out_stride, addend, addend_stride = arguments
    if not strided:
        x_step = ir.Constant(_I64, FLOAT_BYTES)
    zero = ir.Constant(_VECTOR, [0.0] * LANES)
    sums = [[cgutils.alloca_once_value(builder, zero) for _ in range(panels)] for _ in range(rows)]
    x_rows = [at_row(builder, x, x_stride, row, _BYTE) for row in range(rows)]

    def add(place: ir.Value, weights: "Values") -> None:
        offset = builder.mul(place, x_step)
        for row, x_row in enumerate(x_rows):
            number = builder.load(builder.bitcast(builder.gep(x_row, [offset]), _F32.as_pointer()), align=4)
            factor = broadcast(builder, number)
            for total, weight in zip(sums[row], weights, strict=True):
                builder.store(multiply_add(builder, weight, factor, builder.load(total)), total)

    w_panels = [at_row(builder, w, panel_stride, panel, _BYTE) for panel in range(panels)]
    walk(builder, w_panels, length, w_step if strided else None, add)
    places = [(row, panel) for row in range(rows) for panel in range(panels)]
    with builder.if_then(builder.icmp_signed("!=", addend, ir.Constant(_I64, 0))):
        for row, panel in places:
            other = builder.bitcast(at_row(builder, addend, addend_stride, row, _F32, panel), _VECTOR.as_pointer())
            total = builder.fadd(builder.load(sums[row][panel]), builder.load(other, align=4))
            builder.store(total, sums[row][panel])
    for row, panel in places:
        place = builder.bitcast(at_row(builder, out, out_stride, row, _F32, panel), _VECTOR.as_pointer())
        builder.store(builder.load(sums[row][panel]), place, align=4)


def stored_numbers(number: Number) -> "Walk":
    """What walks through panels of numbers that are stored one by one."""

    def walk(builder: ir.IRBuilder, panels: "Values", length: ir.Value, w_step: ir.Value | None, emit: "Emit") -> None:
        size = LANES * _BYTES[number]
        step = ir.Constant(_I64, size) if w_step is None else w_step
        ahead = builder.mul(step, ir.Constant(_I64, PREFETCH_BYTES // size))
        with cgutils.for_range(builder, length, intp=_I64) as loop:
            offset, weights = builder.mul(loop.index, step), []
            for panel in panels:
                address = builder.gep(panel, [offset])
                prefetch_line(builder, builder.gep(address, [ahead]))
                weights.append(_load(builder, address, number))
            emit(loop.index, weights)

    return walk


def multiply_add(builder: ir.IRBuilder, one: ir.Value, other: ir.Value, addend: ir.Value) -> ir.Value:
    """one * other + addend, rounded once where the processor can."""
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_VECTOR, [_VECTOR] * 3), f"llvm.fmuladd.v{LANES}f32"
    )
    return builder.call(function, [one, other, addend])


def _load(builder: ir.IRBuilder, address: ir.Value, number: Number) -> ir.Value:
    """The 16 numbers at an address, in float32."""
    stored = ir.VectorType(_STORED[number], LANES)
    loaded = builder.load(builder.bitcast(address, stored.as_pointer()), align=_BYTES[number])
    if number == Number.FLOAT16:
        return builder.fpext(loaded, _VECTOR)
    if number == Number.BFLOAT16:
        sixteen = ir.Constant(_INTEGERS, [16] * LANES)
        return builder.bitcast(builder.shl(builder.zext(loaded, _INTEGERS), sixteen), _VECTOR)
    return loaded


def prefetch_line(builder: ir.IRBuilder, place: ir.Value) -> None:
    """Asks for the cache line at an address, which need not be valid."""
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(ir.VoidType(), [_BYTE.as_pointer(), _I32, _I32, _I32]), "llvm.prefetch.p0"
    )
    builder.call(function, [place, *(ir.Constant(_I32, number) for number in (0, 3, 1))])


def at_row(
    builder: ir.IRBuilder, base: ir.Value, stride: ir.Value, index: int, kind: ir.Type, panel: int = 0
) -> ir.Value:
    """The address of row `index`, as a pointer to `kind`.

    Further on by `panel` rows of panels.
    """
    offset = builder.add(builder.mul(stride, ir.Constant(_I64, index)), ir.Constant(_I64, panel * PANEL_ROW_BYTES))
    return builder.inttoptr(builder.add(base, offset), kind.as_pointer())


def broadcast(builder: ir.IRBuilder, number: ir.Value) -> ir.Value:
    """16 times the same number."""
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, number, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES))


def transposer(number: Number) -> Callable[[int, int, int], None]:
    """Transposes 16 x 16 numbers of a format, into float32.

    Called with (source, source_stride in bytes, target); the target is contiguous.
    """

    def rows_of(builder: ir.IRBuilder, source: ir.Value, stride: ir.Value) -> "Values":
        places = (at_row(builder, source, stride, row, _BYTE) for row in range(LANES))
        return [_load(builder, place, readable(number)) for place in places]

    return square_transposer(rows_of)


def square_transposer(
    rows_of: "Callable[[ir.IRBuilder, ir.Value, ir.Value], Values]",
) -> Callable[[int, int, int], None]:
    """Transposes 16 x 16 numbers into float32, contiguous at the third argument.

    `rows_of` builds what loads them from the first two.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def into_float32(
        typing: "NumbaObject", source: "NumbaObject", which: "NumbaObject", target: "NumbaObject"
    ) -> "NumbaObject":
        def make(
            context: "NumbaObject", builder: ir.IRBuilder, signature: "NumbaObject", arguments: "Values"
        ) -> ir.Value:
            source, which, target = arguments
            for index, row in enumerate(transposed(builder, [*rows_of(builder, source, which)])):
                place = at_row(builder, target, ir.Constant(_I64, PANEL_ROW_BYTES), index, _BYTE)
                builder.store(row, builder.bitcast(place, _VECTOR.as_pointer()), align=4)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 3), make

    return cast(Callable[[int, int, int], None], into_float32)


def widener(number: Number) -> Callable[[int, int, int], None]:
    """Copies rows of 16 numbers of a format, stored one by one, to float32."""
    return panel_widener(stored_numbers(readable(number)))


def panel_widener(walk: "Walk") -> Callable[[int, int, int], None]:
    """Copies rows of 16 numbers to float32.

    Called with (source, target, rows), both contiguous. `walk` as for `product_tile`.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def widened(
        typing: "NumbaObject", source: "NumbaObject", target: "NumbaObject", rows: "NumbaObject"
    ) -> "NumbaObject":
        def make(
            context: "NumbaObject", builder: ir.IRBuilder, signature: "NumbaObject", arguments: "Values"
        ) -> ir.Value:
            source, target, rows = arguments
            first, begin = (builder.inttoptr(place, _BYTE.as_pointer()) for place in (source, target))

            def keep(place: ir.Value, weights: "Values") -> None:
                there = builder.gep(begin, [builder.mul(place, ir.Constant(_I64, PANEL_ROW_BYTES))])
                builder.store(weights[0], builder.bitcast(there, _VECTOR.as_pointer()), align=4)

            walk(builder, [first], rows, None, keep)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 3), make

    return cast(Callable[[int, int, int], None], widened)


def reader(number: Number) -> Callable[[int], float]:
    """Reads one number of a format, in float32."""

    @intrinsic  # type: ignore[untyped-decorator]
    def read(typing: "NumbaObject", address: "NumbaObject") -> "NumbaObject":
        def make(
            context: "NumbaObject", builder: ir.IRBuilder, signature: "NumbaObject", arguments: "Values"
        ) -> ir.Value:
            kind = readable(number)
            place = builder.inttoptr(arguments[0], _STORED[kind].as_pointer())
            loaded = builder.load(place, align=_BYTES[kind])
            if kind == Number.FLOAT16:
                return builder.fpext(loaded, _F32)
            if kind == Number.BFLOAT16:
                return builder.bitcast(builder.shl(builder.zext(loaded, _I32), ir.Constant(_I32, 16)), _F32)
            return loaded

        return types.float32(types.intp), make

    return cast(Callable[[int], float], read)


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
    return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(_I32, LANES), lanes))


@intrinsic  # type: ignore[untyped-decorator]
def _prefetch_at(typing: "NumbaObject", address: "NumbaObject") -> "NumbaObject":
    def make(context: "NumbaObject", builder: ir.IRBuilder, signature: "NumbaObject", arguments: "Values") -> ir.Value:
        prefetch_line(builder, builder.inttoptr(arguments[0], _BYTE.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.intp), make


@intrinsic  # type: ignore[untyped-decorator]
def _pointer(typing: "NumbaObject", address: "NumbaObject") -> "NumbaObject":
    def make(context: "NumbaObject", builder: ir.IRBuilder, signature: "NumbaObject", arguments: "Values") -> ir.Value:
        return builder.inttoptr(arguments[0], _F32.as_pointer())

    return types.CPointer(types.float32)(types.intp), make


@intrinsic  # type: ignore[untyped-decorator]
def _table_pointer(typing: "NumbaObject", address: "NumbaObject") -> "NumbaObject":
    def make(context: "NumbaObject", builder: ir.IRBuilder, signature: "NumbaObject", arguments: "Values") -> ir.Value:
        return builder.inttoptr(arguments[0], _I64.as_pointer())

    return types.CPointer(types.int64)(types.intp), make


@intrinsic  # type: ignore[untyped-decorator]
def _no_inline(typing: "NumbaObject") -> "NumbaObject":
    def make(context: "NumbaObject", builder: ir.IRBuilder, signature: "NumbaObject", arguments: "Values") -> ir.Value:
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), make


@intrinsic  # type: ignore[untyped-decorator]
def _from_bits(typing: "NumbaObject", bits: "NumbaObject") -> "NumbaObject":
    def make(context: "NumbaObject", builder: ir.IRBuilder, signature: "NumbaObject", arguments: "Values") -> ir.Value:
        return builder.bitcast(builder.trunc(arguments[0], _I32), _F32)

    return types.float32(types.int64), make


@intrinsic  # type: ignore[untyped-decorator]
def _add(typing: "NumbaObject", address: "NumbaObject", number: "NumbaObject") -> "NumbaObject":
    def make(context: "NumbaObject", builder: ir.IRBuilder, signature: "NumbaObject", arguments: "Values") -> ir.Value:
        place = builder.inttoptr(arguments[0], _I64.as_pointer())
        return builder.atomic_rmw("add", place, arguments[1], "seq_cst")

    return types.int64(types.intp, types.int64), make


@intrinsic  # type: ignore[untyped-decorator]
def _read(typing: "NumbaObject", address: "NumbaObject") -> "NumbaObject":
    def make(context: "NumbaObject", builder: ir.IRBuilder, signature: "NumbaObject", arguments: "Values") -> ir.Value:
        place = builder.inttoptr(arguments[0], _I64.as_pointer())
        return builder.load_atomic(place, "seq_cst", 8)

    return types.int64(types.intp), make


@intrinsic  # type: ignore[untyped-decorator]
def _write(typing: "NumbaObject", address: "NumbaObject", number: "NumbaObject") -> "NumbaObject":
    def make(context: "NumbaObject", builder: ir.IRBuilder, signature: "NumbaObject", arguments: "Values") -> ir.Value:
        place = builder.inttoptr(arguments[0], _I64.as_pointer())
        builder.store_atomic(arguments[1], place, "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.intp, types.int64), make


prefetch = cast(Callable[[int], None], _prefetch_at)
"""Asks for the cache line at an address, which need not be valid."""
pointer = cast(Callable[[int], Any], _pointer)
"""An address as a pointer to float32, for `numba.carray`."""
table_pointer = cast(Callable[[int], Any], _table_pointer)
"""An address as a pointer to int64."""
from_bits = cast(Callable[[int], float], _from_bits)
"""The float32 with these 32 bits."""
atomic_add = cast(Callable[[int, int], int], _add)
"""Adds to the int64 at an address; returns what was there before."""
no_inline = cast(Callable[[], None], _no_inline)
"""Called within a function, keeps it from being inlined, so that it is compiled once and not into every caller."""
atomic_read = cast(Callable[[int], int], _read)
"""The int64 at an address."""
atomic_write = cast(Callable[[int, int], None], _write)
"""Sets the int64 at an address."""
