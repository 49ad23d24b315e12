"""Matrices in the panels that the serving kernels read, packed without torch.

`families.panels` does the same with torch's tensors for training; a test holds the two together. What panels are for
stands in `kernels.multiply`. Numbers of bfloat16, which numpy does not have, are uint16 arrays of their bits.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeAlias, cast

import numpy
from numpy.typing import NDArray

from tunesmith.kernels.blocks import BLOCK_BYTES, BLOCK_INPUTS
from tunesmith.kernels.rounding import ROUND_ARGS, SCRATCH_BYTES, read_panels, round_panels
from tunesmith.kernels.serving.packing import PACK_ARGS, pack_squares
from tunesmith.kernels.vectors import HAS_HALF, LANES, Number
from tunesmith.system.pages import ArraySlab, slab_bytes

Width: TypeAlias = Literal["float32", "float16", "bfloat16", "int8", "int4"]
Weights: TypeAlias = NDArray[numpy.float32] | NDArray[numpy.float16] | NDArray[numpy.uint16]  # the last: bfloat16
KINDS = {
    numpy.dtype("float32"): Number.FLOAT32,
    numpy.dtype("float16"): Number.FLOAT16,
    numpy.dtype("uint16"): Number.BFLOAT16,
}
DTYPES: dict[Width, numpy.dtype[numpy.generic]] = {
    "float32": numpy.dtype("float32"),
    "float16": numpy.dtype("float16"),
    "bfloat16": numpy.dtype("uint16"),
}
QUANTISED: dict[Width, Number] = {"int8": Number.INT8, "int4": Number.INT4}
_QUIET = numpy.uint32(0x40)  # of a bfloat16 that is no number: without this bit it could become infinite
CHUNK = 1 << 22  # numbers that one thread packs or widens at a time


def whole_panels(columns: int) -> int:
    """The number of panels that so many columns fill."""
    return -(-columns // LANES)


def kind_of(width: Width) -> Number:
    """What the kernels call a width."""
    return QUANTISED[width] if width in QUANTISED else KINDS[DTYPES[width]]


def narrowest(inputs: int, width: Width, stored: Width) -> Width:
    """The width of a matrix of so many inputs where `width` is asked for.

    Blocks must be whole. Where they are not, 8 bits stand in for 4, and the format in which the matrix is stored for 8.
    """
    if width == "int4" and inputs % BLOCK_INPUTS[Number.INT4]:
        width = "int8"
    return stored if width == "int8" and inputs % BLOCK_INPUTS[Number.INT8] else width


def take_panels(parts_OI: Sequence[Weights], width: Width, slab: ArraySlab) -> Weights:
    """Room for matrices over the same input: panels [panels, I, 16].

    Of blocks bytes [panels, n]. `packing` fills them.
    """
    panels, inputs = _panels(parts_OI), parts_OI[0].shape[1]
    if width in QUANTISED:
        return cast(Weights, slab.take((panels, row_bytes(inputs, width)), numpy.dtype("uint8")))
    return cast(Weights, slab.take((panels, inputs, LANES), DTYPES[width]))


def panel_bytes(parts_OI: Sequence[Weights], width: Width) -> int:
    """The bytes that `take_panels` takes from a slab."""
    return slab_bytes(_panels(parts_OI) * row_bytes(parts_OI[0].shape[1], width))


def row_bytes(inputs: int, width: Width) -> int:
    """Of one panel."""
    if width in QUANTISED:
        return inputs // BLOCK_INPUTS[QUANTISED[width]] * BLOCK_BYTES[QUANTISED[width]]
    return inputs * LANES * DTYPES[width].itemsize


def packing(parts_OI: Sequence[Weights], panels: Weights, width: Width) -> list[tuple[Callable[[], None], Weights]]:
    """What packs the matrices, in pieces, with the rows that each piece reads.

    Threads may run them in any order. Each matrix begins a panel of its own, and zeros pad its last one.
    """
    pieces: list[_Piece | _Rounded] = []
    first = 0
    for part in parts_OI:
        step = max(1, CHUNK // (LANES * max(1, part.shape[1]))) * LANES
        for start in range(0, len(part), step):
            rows = part[start : start + step]
            place = first + start // LANES
            target = panels[place : place + whole_panels(len(rows))]
            pieces.append(_Rounded(rows, target, QUANTISED[width]) if width in QUANTISED else _Piece(rows, target))
        first += whole_panels(len(part))
    return [(piece.pack, piece.rows) for piece in pieces]


def pack(parts_OI: Sequence[Weights], width: Width, slab: ArraySlab) -> Weights:
    """Matrices over the same input as `take_panels` has them, at once."""
    panels = take_panels(parts_OI, width, slab)
    for piece, _ in packing(parts_OI, panels, width):
        piece()
    return panels


def pack_bias(parts_O: Sequence[Weights]) -> NDArray[numpy.float32]:
    """The biases of such matrices in float32, each padded to whole panels."""
    return numpy.concatenate([numpy.pad(widen(part), (0, -len(part) % LANES)) for part in parts_O])


def widen_panels(panels: Weights, width: Width, wide: NDArray[numpy.float32]) -> None:
    """What panels of blocks stand for, into float32 [panels, I, 16]."""
    args = numpy.zeros(1, ROUND_ARGS)
    args["target"], args["target_kind"], args["scratch"] = panels.ctypes.data, kind_of(width), wide.ctypes.data
    args["panels"], args["inputs"] = len(panels), wide.shape[1]
    read_panels(args)


def widen(numbers: Weights) -> NDArray[numpy.float32]:
    """The numbers in float32, which all of these formats are part of.

    The same array where they are float32.
    """
    if numbers.dtype == numpy.uint16:
        return (numbers.astype(numpy.uint32) << 16).view(numpy.float32)
    return numpy.ascontiguousarray(numbers, numpy.float32)


def widen_rows(numbers_RI: Weights, threads: int) -> NDArray[numpy.float32]:
    """As `widen`, of a large matrix."""
    if numbers_RI.dtype == numpy.float32:
        return widen(numbers_RI)
    wide = numpy.empty(numbers_RI.shape, numpy.float32)
    step = max(1, CHUNK // numbers_RI.shape[1])

    def fill(first: int) -> None:
        wide[first : first + step] = widen(numbers_RI[first : first + step])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(fill, range(0, len(wide), step)))
    return wide


class _Piece:
    """Some rows of a matrix, and the panels that they fill."""

    def __init__(self, rows: Weights, panels: Weights) -> None:
        self.rows = rows
        self._panels = panels

    def pack(self) -> None:
        rows, panels = self._readable(), self._panels
        inputs, whole = rows.shape[1], len(rows) // LANES
        if rows.flags.c_contiguous:
            self._pack_squares(rows, whole)
            done = inputs // LANES * LANES
        else:
            done = 0
        if done < inputs:
            rest = self._numbers(rows[: whole * LANES, done:]).reshape(whole, LANES, inputs - done)
            panels[:whole, done:] = rest.transpose(0, 2, 1)
        if whole < len(panels):
            panels[whole, :, : len(rows) - whole * LANES] = self._numbers(rows[whole * LANES :]).T
            panels[whole, :, len(rows) - whole * LANES :] = 0

    def _numbers(self, rows: Weights) -> Weights:
        """What can be assigned to the panels: the bits of bfloat16 stay what they are."""
        return rows if rows.dtype == self._panels.dtype else widen(rows)

    def _readable(self) -> Weights:
        """What the kernel reads; made when the piece is packed, since all together may be the base once more."""
        rows = self.rows
        if self._panels.dtype == numpy.uint16 and rows.dtype != numpy.uint16:
            return _bfloat16(widen(rows))  # the kernel does not round to it
        return widen(rows) if rows.dtype == numpy.float16 and not HAS_HALF else rows

    def _pack_squares(self, rows: Weights, whole: int) -> None:
        args = numpy.zeros(1, PACK_ARGS)
        args["source"], args["source_kind"] = rows.ctypes.data, KINDS[rows.dtype]
        args["target"], args["target_kind"] = self._panels.ctypes.data, KINDS[self._panels.dtype]
        args["panels"], args["inputs"] = whole, rows.shape[1]
        pack_squares(args)


class _Rounded:
    """Some rows of a matrix, and the panels of blocks that they are rounded to."""

    def __init__(self, rows: Weights, panels: Weights, kind: Number) -> None:
        readable = rows.flags.c_contiguous and (HAS_HALF or rows.dtype != numpy.float16)
        self.rows = rows if readable else cast(Weights, numpy.ascontiguousarray(widen(rows)))
        self._panels, self._kind = panels, kind

    def pack(self) -> None:
        whole = len(self.rows) // LANES
        self._round(self.rows[: whole * LANES], self._panels[:whole])
        if whole < len(self._panels):
            last = self.rows[whole * LANES :]
            padded = cast(Weights, numpy.zeros((LANES, last.shape[1]), last.dtype))
            padded[: len(last)] = last
            self._round(padded, self._panels[whole:])

    def _round(self, rows: Weights, panels: Weights) -> None:
        args, scratch = numpy.zeros(1, ROUND_ARGS), numpy.empty(SCRATCH_BYTES, numpy.uint8)
        args["source"], args["source_kind"] = rows.ctypes.data, KINDS[rows.dtype]
        args["target"], args["target_kind"] = panels.ctypes.data, self._kind
        args["panels"], args["inputs"], args["scratch"] = len(panels), rows.shape[1], scratch.ctypes.data
        round_panels(args)


def _bfloat16(numbers: NDArray[numpy.float32]) -> NDArray[numpy.uint16]:
    """The nearest bfloat16 numbers, of two as near the even one; no numbers stay no numbers."""
    bits = numpy.ascontiguousarray(numbers).view(numpy.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return numpy.where(numpy.isnan(numbers), bits >> 16 | _QUIET, rounded).astype(numpy.uint16)


def _panels(parts_OI: Sequence[Weights]) -> int:
    return sum(whole_panels(len(part)) for part in parts_OI)
