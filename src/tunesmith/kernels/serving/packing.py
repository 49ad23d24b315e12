"""Weights into panels: read as stored, transposed and rounded in registers.

A square of 16 outputs and 16 inputs is read once and written once, so packing takes as long as reading and writing.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast

from llvmlite import ir

from tunesmith.kernels.compiler import compiled, entry
from tunesmith.kernels.intrinsics import of_addresses
from tunesmith.kernels.records import Records, record
from tunesmith.kernels.vectors import (
    BYTE,
    HAS_HALF,
    I64,
    LANES,
    STORED_BYTES,
    Number,
    at_row,
    load_numbers,
    store_numbers,
    transposed,
)

if TYPE_CHECKING:
    from tunesmith.kernels.intrinsics import Values


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

    def square(builder: ir.IRBuilder, arguments: "Values") -> None:
        source, stride, target = arguments
        places = [at_row(builder, source, stride, row, BYTE) for row in range(LANES)]
        rows = [load_numbers(builder, place, source_kind) for place in places]
        size = ir.Constant(I64, LANES * STORED_BYTES[target_kind])
        for index, row in enumerate(transposed(builder, rows)):
            store_numbers(builder, row, at_row(builder, target, size, index, BYTE), target_kind)

    return cast(SquareFunction, of_addresses(3, square))


def _packer(source_kind: Number, target_kind: Number) -> Callable[[PackArgs], None]:
    square = _square(source_kind, target_kind)
    source_size, target_size = STORED_BYTES[source_kind], STORED_BYTES[target_kind]

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
