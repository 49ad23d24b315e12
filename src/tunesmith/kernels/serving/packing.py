"""Weights into panels: read as stored, transposed and rounded in registers.

A square of 16 outputs and 16 inputs is read once and written once, so packing takes as long as reading and writing.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from tunesmith.kernels.compiler import compiled, entry
from tunesmith.kernels.records import Records, record
from tunesmith.kernels.vectors import HAS_HALF, LANES, Number, at_row, transposed

if TYPE_CHECKING:
    NumbaObject: TypeAlias = Any  # Numba's own objects, which are untyped

_I64, _F32, _BYTE = ir.IntType(64), ir.FloatType(), ir.IntType(8)
_FLOATS, _HALVES = ir.VectorType(_F32, LANES), ir.VectorType(ir.HalfType(), LANES)
_SHORTS, _WORDS = ir.VectorType(ir.IntType(16), LANES), ir.VectorType(ir.IntType(32), LANES)


KIND_BYTES = {Number.FLOAT32: 4, Number.FLOAT16: 2, Number.BFLOAT16: 2}


class PackArgs(Protocol):
    """One matrix [outputs, inputs] and its panels [outputs / 16, inputs, 16].

    Addresses and counts.
    """

    source: int
    source_kind: int
    panels: int  # whole ones
    inputs: int  # of a row of the source; packed are whole squares of 16
    target: int
    target_kind: int


PACK_ARGS = record(PackArgs)
SquareFunction: TypeAlias = Callable[[int, int, int], None]


def _square(source_kind: Number, target_kind: Number) -> SquareFunction:
    """Transposes 16 x 16 numbers: (source, source_stride in bytes, target)."""

    @intrinsic  # type: ignore[untyped-decorator]
    def square(
        typing: "NumbaObject", source: "NumbaObject", source_stride: "NumbaObject", target: "NumbaObject"
    ) -> "NumbaObject":
        def make(
            context: "NumbaObject", builder: ir.IRBuilder, signature: "NumbaObject", arguments: list[ir.Value]
        ) -> ir.Value:
            source, stride, target = arguments
            rows = [_load(builder, at_row(builder, source, stride, row, _BYTE), source_kind) for row in range(LANES)]
            size = ir.Constant(_I64, LANES * KIND_BYTES[target_kind])
            for index, row in enumerate(transposed(builder, rows)):
                _store(builder, row, at_row(builder, target, size, index, _BYTE), target_kind)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 3), make

    return cast(SquareFunction, square)


def _load(builder: ir.IRBuilder, place: ir.Value, kind: Number) -> ir.Value:
    if kind is Number.FLOAT32:
        return builder.load(builder.bitcast(place, _FLOATS.as_pointer()), align=4)
    if kind is Number.FLOAT16:
        return builder.fpext(builder.load(builder.bitcast(place, _HALVES.as_pointer()), align=2), _FLOATS)
    words = builder.zext(builder.load(builder.bitcast(place, _SHORTS.as_pointer()), align=2), _WORDS)
    return builder.bitcast(builder.shl(words, ir.Constant(_WORDS, [16] * LANES)), _FLOATS)


def _store(builder: ir.IRBuilder, row: ir.Value, place: ir.Value, kind: Number) -> None:
    if kind is Number.FLOAT32:
        builder.store(row, builder.bitcast(place, _FLOATS.as_pointer()), align=4)
    elif kind is Number.FLOAT16:
        builder.store(builder.fptrunc(row, _HALVES), builder.bitcast(place, _HALVES.as_pointer()), align=2)
    else:  # of a bfloat16 number: the other half of its bits is zero
        words = builder.lshr(builder.bitcast(row, _WORDS), ir.Constant(_WORDS, [16] * LANES))
        builder.store(builder.trunc(words, _SHORTS), builder.bitcast(place, _SHORTS.as_pointer()), align=2)


def _packer(source_kind: Number, target_kind: Number) -> Callable[[PackArgs], None]:
    square = _square(source_kind, target_kind)
    source_size, target_size = KIND_BYTES[source_kind], KIND_BYTES[target_kind]

    @compiled
    def pack(args: PackArgs) -> None:
        stride = args.inputs * source_size
        for panel in range(args.panels):
            source = args.source + panel * LANES * stride
            target = args.target + panel * args.inputs * LANES * target_size
            for first in range(0, args.inputs - LANES + 1, LANES):
                square(source + first * source_size, stride, target + first * LANES * target_size)

    return cast(Callable[[PackArgs], None], pack)


# float16 is read and written only where the processor converts it; `families.array_panels` asks for nothing else.
_HALF = Number.FLOAT16 if HAS_HALF else Number.FLOAT32
_float32_to_float32 = _packer(Number.FLOAT32, Number.FLOAT32)
_float32_to_float16 = _packer(Number.FLOAT32, _HALF)
_float16_to_float32 = _packer(_HALF, Number.FLOAT32)
_float16_to_float16 = _packer(_HALF, _HALF)
_bfloat16_to_float32 = _packer(Number.BFLOAT16, Number.FLOAT32)
_bfloat16_to_float16 = _packer(Number.BFLOAT16, _HALF)
_bfloat16_to_bfloat16 = _packer(Number.BFLOAT16, Number.BFLOAT16)
_F16, _BF16 = int(Number.FLOAT16), int(Number.BFLOAT16)


@entry
def pack_squares(step: Records) -> None:
    """Packs the whole squares of the matrix of step[0], a `PackArgs`.

    bfloat16 panels are packed of bfloat16 numbers only.
    """
    args = step[0]
    if args.source_kind == _BF16:
        if args.target_kind == _BF16:
            _bfloat16_to_bfloat16(args)
        elif args.target_kind == _F16:
            _bfloat16_to_float16(args)
        else:
            _bfloat16_to_float32(args)
    elif args.source_kind == _F16:
        if args.target_kind == _F16:
            _float16_to_float16(args)
        else:
            _float16_to_float32(args)
    elif args.target_kind == _F16:
        _float32_to_float16(args)
    else:
        _float32_to_float32(args)
