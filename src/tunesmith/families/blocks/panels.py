"""GGUF's blocks in the panels of `kernels.blocks`: moved, not rounded again."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from tunesmith.families.array_panels import whole_panels
from tunesmith.families.blocks.kinds import K_KINDS, KINDS, KBlocks, SmallBlocks
from tunesmith.kernels.blocks import BLOCK_BYTES, BLOCK_INPUTS
from tunesmith.kernels.vectors import LANES, Number

Bytes: TypeAlias = NDArray[np.uint8]
_FOURS = (  # how eight bytes below 16 become one number of 32 bits: shift, and what is kept
    (4, 0x00FF00FF00FF00FF),
    (8, 0x0000FFFF0000FFFF),
    (16, 0x00000000FFFFFFFF),
)


ROWS_AT_ONCE = 16 * LANES  # of a matrix: what taking them apart needs besides stays in the cache


class Matrix(Protocol):
    """Rows of blocks of one kind."""

    def take(self, outputs: NDArray[np.int64]) -> SmallBlocks | KBlocks:
        """These of its rows, taken apart."""
        ...


Piece: TypeAlias = tuple[Matrix, NDArray[np.int64]]  # and which of its rows


def format_of(kinds: Iterable[str]) -> Number | None:
    """The format of panels that hold matrices of all these kinds as they are.

    None if there is none.
    """
    found = set(kinds)
    if found == {"Q4_K"}:
        return Number.INT4
    if found <= K_KINDS:
        return Number.INT6
    return Number.INT8 if found <= KINDS - K_KINDS else None


def packing(pieces: Sequence[Piece], number: Number, panels_PB: Bytes) -> Iterator[Callable[[], None]]:
    """What packs these outputs of matrices over the same input, a few at a time.

    Threads may run them in any order. Each piece begins a panel of its own, and zeros pad its last one.
    """
    first = 0
    for matrix, outputs in pieces:
        for start in range(0, len(outputs), ROWS_AT_ONCE):
            some, place = outputs[start : start + ROWS_AT_ONCE], first + start // LANES
            yield partial(_pack, matrix, some, number, panels_PB[place : place + whole_panels(len(some))])
        first += whole_panels(len(outputs))


def _pack(matrix: Matrix, outputs: NDArray[np.int64], number: Number, panels_PB: Bytes) -> None:
    fill_panels(number, matrix.take(outputs), panels_PB)


def fill_panels(number: Number, rows: SmallBlocks | KBlocks, panels_PB: Bytes) -> None:
    """Fills in panels [whole panels of the rows, bytes], whose padding becomes zeros."""
    blocks = panels_PB.reshape(len(panels_PB), -1, BLOCK_BYTES[number])
    if isinstance(rows, SmallBlocks):
        _int8(rows, blocks)
    elif number == Number.INT4:
        _int4(rows, blocks)
    else:
        _int6(rows.in_subblocks_of_16(), blocks)


def panels_shape(pieces: Sequence[Piece], number: Number, inputs: int) -> tuple[int, int]:
    """The panels that `packing` fills, and the bytes of each."""
    panels = sum(whole_panels(len(outputs)) for _, outputs in pieces)
    return panels, inputs // BLOCK_INPUTS[number] * BLOCK_BYTES[number]


def _int8(rows: SmallBlocks, blocks: Bytes) -> None:
    _put(blocks, 0, rows.d)
    _put(blocks, 2 * LANES, rows.q)


def _int4(rows: KBlocks, blocks: Bytes) -> None:
    at = _put(blocks, _put(blocks, 0, rows.d), rows.dmin)
    at = _put(blocks, _put(blocks, at, rows.scale), rows.least)
    eights = np.ascontiguousarray(rows.q).view(np.uint64)  # [O, blocks, K_BLOCK / GROUP]
    for shift, kept in _FOURS:
        eights = cast(NDArray[np.uint64], (eights | eights >> np.uint64(shift)) & np.uint64(kept))
    _put(blocks, at, eights.astype(np.uint32))


def _int6(rows: KBlocks, blocks: Bytes) -> None:
    at = _put(blocks, _put(blocks, 0, rows.d), rows.dmin)
    at = _put(blocks, _put(blocks, at, rows.scale), rows.least)
    _put(blocks, at, rows.q)


def _put(blocks_PBn: Bytes, at: int, numbers: NDArray[np.generic]) -> int:
    """Puts the numbers [O, blocks, …] of 16 outputs side by side, from a byte of each block on; returns the next.

    In two steps, each over long runs: numpy moves bytes ten times as fast so.
    """
    flat = np.ascontiguousarray(numbers).reshape(len(numbers), -1)
    panels, count = len(blocks_PBn), flat.shape[1] // blocks_PBn.shape[1]
    if len(flat) < panels * LANES:
        flat = np.concatenate([flat, np.zeros((panels * LANES - len(flat), flat.shape[1]), flat.dtype)])
    turned = np.ascontiguousarray(flat.reshape(panels, LANES, -1).transpose(0, 2, 1))
    end: int = at + count * LANES * flat.dtype.itemsize
    blocks_PBn[..., at:end] = turned.view(np.uint8).reshape(panels, blocks_PBn.shape[1], -1)
    return end
