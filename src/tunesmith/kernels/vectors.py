"""Building blocks that Python cannot express: blocks of a matrix product held in registers, addresses, atomic counters.

Written as LLVM's vectors of 16 numbers, which become whatever the processor has: one register with AVX-512, two with
AVX2, four with NEON. A product's block keeps its sums in registers through the whole length K, in the order of K, and
so gives each number the same bits whatever else is computed beside it.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features, get_host_cpu_name
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

if TYPE_CHECKING:
    Typing: TypeAlias = Any  # Numba's own objects, which have no types
    Values: TypeAlias = Sequence[ir.Value]

LANES = 16  # numbers of a panel's row
AHEAD = 2048  # bytes of a panel that are asked for in advance: the hardware does so within a page only
TileFunction: TypeAlias = Callable[[int, int, int, int, int, int, int, int, int, int, int], None]

_I64, _I32, _BYTE = ir.IntType(64), ir.IntType(32), ir.IntType(8)
_F32, _F16 = ir.FloatType(), ir.HalfType()
_VECTOR, _HALVES = ir.VectorType(_F32, LANES), ir.VectorType(_F16, LANES)


def features() -> frozenset[str]:
    """Of the processor that code is made for."""
    if config.CPU_NAME or config.CPU_FEATURES:  # another one than this, as the tests ask for it
        named = (name[1:] for name in (config.CPU_FEATURES or "").split(",") if name.startswith("+"))
        return frozenset({config.CPU_NAME or "", *named})
    return frozenset({get_host_cpu_name(), *(name for name, present in get_host_cpu_features().items() if present)})


def tile(rows: int, panels: int, *, half: bool, strided: bool = False) -> TileFunction:
    """The product of `rows` rows with `panels` panels, as a function for compiled code.

    Called with (x, x_stride, x_step, w, panel_stride, w_step, length, out, out_stride, addend, addend_stride):
    addresses, and distances in bytes: from row to row, and from one of the `length` places of the sums to the next.
    Only with `strided` the steps mean something; without it x's numbers stand side by side, and `w` holds panels
    [length, 16] of float32, or of float16 with `half`. `addend` 0: nothing is added.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def product(
        typing: "Typing",
        x: "Typing",
        x_stride: "Typing",
        x_step: "Typing",
        w: "Typing",
        panel_stride: "Typing",
        w_step: "Typing",
        length: "Typing",
        out: "Typing",
        out_stride: "Typing",
        addend: "Typing",
        addend_stride: "Typing",
    ) -> "Typing":
        def make(context: "Typing", builder: ir.IRBuilder, signature: "Typing", arguments: "Values") -> ir.Value:
            _tile(builder, arguments, rows, panels, half=half, strided=strided)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 11), make

    return cast(TileFunction, product)


def _tile(builder: ir.IRBuilder, arguments: "Values", rows: int, panels: int, *, half: bool, strided: bool) -> None:
    x, x_stride, x_step, w, panel_stride, w_step, length, out, out_stride, addend, addend_stride = arguments
    size = 2 if half else 4
    if not strided:
        x_step, w_step = ir.Constant(_I64, 4), ir.Constant(_I64, LANES * size)
    vector = _HALVES if half else _VECTOR
    ahead = builder.mul(w_step, ir.Constant(_I64, AHEAD // (LANES * size)))
    zero = ir.Constant(_VECTOR, [0.0] * LANES)
    sums = [[cgutils.alloca_once_value(builder, zero) for _ in range(panels)] for _ in range(rows)]
    x_rows = [_at(builder, x, x_stride, row, _BYTE) for row in range(rows)]
    w_panels = [_at(builder, w, panel_stride, panel, _BYTE) for panel in range(panels)]
    multiply_add = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_VECTOR, [_VECTOR] * 3), f"llvm.fmuladd.v{LANES}f32"
    )
    with cgutils.for_range(builder, length, intp=_I64) as loop:
        x_offset, w_offset = builder.mul(loop.index, x_step), builder.mul(loop.index, w_step)
        weights = []
        for panel in w_panels:
            address = builder.gep(panel, [w_offset])
            _prefetch(builder, builder.gep(address, [ahead]))
            loaded = builder.load(builder.bitcast(address, vector.as_pointer()), align=size)
            weights.append(builder.fpext(loaded, _VECTOR) if half else loaded)
        for row, x_row in enumerate(x_rows):
            place = builder.bitcast(builder.gep(x_row, [x_offset]), _F32.as_pointer())
            number = _spread(builder, builder.load(place, align=4))
            for panel, weight in enumerate(weights):
                place = sums[row][panel]
                builder.store(builder.call(multiply_add, [weight, number, builder.load(place)]), place)
    places = [(row, panel) for row in range(rows) for panel in range(panels)]
    with builder.if_then(builder.icmp_signed("!=", addend, ir.Constant(_I64, 0))):
        for row, panel in places:
            other = builder.bitcast(_at(builder, addend, addend_stride, row, _F32, panel), _VECTOR.as_pointer())
            total = builder.fadd(builder.load(sums[row][panel]), builder.load(other, align=4))
            builder.store(total, sums[row][panel])
    for row, panel in places:
        place = builder.bitcast(_at(builder, out, out_stride, row, _F32, panel), _VECTOR.as_pointer())
        builder.store(builder.load(sums[row][panel]), place, align=4)


def _prefetch(builder: ir.IRBuilder, place: ir.Value) -> None:
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(ir.VoidType(), [_BYTE.as_pointer(), _I32, _I32, _I32]), "llvm.prefetch.p0"
    )
    builder.call(function, [place, *(ir.Constant(_I32, number) for number in (0, 3, 1))])


def _at(builder: ir.IRBuilder, base: ir.Value, stride: ir.Value, index: int, kind: ir.Type, panel: int = 0) -> ir.Value:
    offset = builder.add(builder.mul(stride, ir.Constant(_I64, index)), ir.Constant(_I64, panel * LANES * 4))
    return builder.inttoptr(builder.add(base, offset), kind.as_pointer())


def _spread(builder: ir.IRBuilder, number: ir.Value) -> ir.Value:
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, number, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES))


@intrinsic  # type: ignore[untyped-decorator]
def _turn(typing: "Typing", source: "Typing", source_stride: "Typing", target: "Typing") -> "Typing":
    def make(context: "Typing", builder: ir.IRBuilder, signature: "Typing", arguments: "Values") -> ir.Value:
        source, stride, target = arguments
        places = (_at(builder, source, stride, row, _BYTE) for row in range(LANES))
        rows = [builder.load(builder.bitcast(place, _VECTOR.as_pointer()), align=4) for place in places]
        for index, row in enumerate(_turned(builder, rows)):
            place = _at(builder, target, ir.Constant(_I64, LANES * 4), index, _BYTE)
            builder.store(row, builder.bitcast(place, _VECTOR.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 3), make


def _turned(builder: ir.IRBuilder, rows: list[ir.Value]) -> list[ir.Value]:
    """Transposed, in four rounds: each exchanges halves of blocks twice as wide as the round before."""
    width = 1
    while width < LANES:
        lower = [lane if not lane & width else lane + LANES - width for lane in range(LANES)]
        upper = [lane + width if not lane & width else lane + LANES for lane in range(LANES)]
        before, rows = rows, list(rows)
        for row in range(LANES):
            if not row & width:
                pair = before[row], before[row + width]
                rows[row], rows[row + width] = (_picked(builder, *pair, lanes) for lanes in (lower, upper))
        width *= 2
    return rows


def _picked(builder: ir.IRBuilder, one: ir.Value, other: ir.Value, lanes: list[int]) -> ir.Value:
    return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(_I32, LANES), lanes))


@intrinsic  # type: ignore[untyped-decorator]
def _pointer(typing: "Typing", address: "Typing") -> "Typing":
    def make(context: "Typing", builder: ir.IRBuilder, signature: "Typing", arguments: "Values") -> ir.Value:
        return builder.inttoptr(arguments[0], _F32.as_pointer())

    return types.CPointer(types.float32)(types.intp), make


@intrinsic  # type: ignore[untyped-decorator]
def _table_pointer(typing: "Typing", address: "Typing") -> "Typing":
    def make(context: "Typing", builder: ir.IRBuilder, signature: "Typing", arguments: "Values") -> ir.Value:
        return builder.inttoptr(arguments[0], _I64.as_pointer())

    return types.CPointer(types.int64)(types.intp), make


@intrinsic  # type: ignore[untyped-decorator]
def _keep_apart(typing: "Typing") -> "Typing":
    def make(context: "Typing", builder: ir.IRBuilder, signature: "Typing", arguments: "Values") -> ir.Value:
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), make


@intrinsic  # type: ignore[untyped-decorator]
def _from_bits(typing: "Typing", bits: "Typing") -> "Typing":
    def make(context: "Typing", builder: ir.IRBuilder, signature: "Typing", arguments: "Values") -> ir.Value:
        return builder.bitcast(builder.trunc(arguments[0], _I32), _F32)

    return types.float32(types.int64), make


@intrinsic  # type: ignore[untyped-decorator]
def _add(typing: "Typing", address: "Typing", number: "Typing") -> "Typing":
    def make(context: "Typing", builder: ir.IRBuilder, signature: "Typing", arguments: "Values") -> ir.Value:
        place = builder.inttoptr(arguments[0], _I64.as_pointer())
        return builder.atomic_rmw("add", place, arguments[1], "seq_cst")

    return types.int64(types.intp, types.int64), make


@intrinsic  # type: ignore[untyped-decorator]
def _read(typing: "Typing", address: "Typing") -> "Typing":
    def make(context: "Typing", builder: ir.IRBuilder, signature: "Typing", arguments: "Values") -> ir.Value:
        place = builder.inttoptr(arguments[0], _I64.as_pointer())
        return builder.load_atomic(place, "seq_cst", 8)

    return types.int64(types.intp), make


@intrinsic  # type: ignore[untyped-decorator]
def _write(typing: "Typing", address: "Typing", number: "Typing") -> "Typing":
    def make(context: "Typing", builder: ir.IRBuilder, signature: "Typing", arguments: "Values") -> ir.Value:
        place = builder.inttoptr(arguments[0], _I64.as_pointer())
        builder.store_atomic(arguments[1], place, "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.intp, types.int64), make


turn = cast(Callable[[int, int, int], None], _turn)
"""Transposes 16 x 16 numbers: from rows so many bytes apart to rows side by side. (source, source_stride, target)"""
pointer = cast(Callable[[int], Any], _pointer)
"""An address as a pointer to float32, for `numba.carray`."""
table_pointer = cast(Callable[[int], Any], _table_pointer)
"""An address as a pointer to int64."""
from_bits = cast(Callable[[int], float], _from_bits)
"""The float32 with these 32 bits."""
atomic_add = cast(Callable[[int, int], int], _add)
"""Adds to the 64-bit number at an address; what was there before."""
keep_apart = cast(Callable[[], None], _keep_apart)
"""Called within a function, has it compiled once and not into each of its callers."""
atomic_read = cast(Callable[[int], int], _read)
atomic_write = cast(Callable[[int, int], None], _write)
