"""Keys and values of all sequences, and attention of a step's new tokens over them.

One tensor a layer holds all slots, so that the new tokens of many sequences are written at once and sequences that
stand side by side are one attention call, padded to the longest. Memory that no sequence has written to is only
addresses. Everything that is the same in all layers is worked out once a step, in a `Reading`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from tunesmith.models.pages import give_back, small_pages

ROOM = 1024  # positions of a slot at first; they double
FEW = 4  # slots at first; they double too
CALL = 200  # positions that can be read in the time a call of its own costs


class Piece(Protocol):
    """New tokens of one slot, see `scheduler.Feed`."""

    @property
    def slot(self) -> int: ...
    @property
    def start(self) -> int: ...
    @property
    def ids(self) -> tuple[int, ...]: ...


@dataclass(frozen=True, slots=True)
class _Together:
    """Sequences with one new token each, in neighbouring slots."""

    rows: Tensor | slice  # of the step's tokens
    slots: slice
    end: int  # positions of the longest
    mask: Tensor | None  # [sequences, 1, group, end], added to the scores; None: all are equally long


@dataclass(frozen=True, slots=True)
class _Alone:
    """One sequence with several new tokens."""

    rows: slice
    slot: int
    start: int
    mask: Tensor  # [group * new, positions]: which ones each new token sees


@dataclass(frozen=True, slots=True)
class Reading:
    """One step: where its tokens' keys and values go, and what is read."""

    slots: Tensor  # of each token
    positions: Tensor
    together: tuple[_Together, ...]
    alone: tuple[_Alone, ...]


class KeyValues:
    def __init__(self, layers: int, heads: int, kv_heads: int, head_size: int, dtype: torch.dtype) -> None:
        self._layers, self._heads, self._kv_heads, self._head_size = layers, heads, kv_heads, head_size
        self._dtype = dtype
        self._room = 0
        self._filled: list[int] = []  # positions of each slot that have been written
        self._keys: list[Tensor] = []  # of each layer, [slots, kv heads, room, head size]
        self._values: list[Tensor] = []

    def copy(self, source: int, target: int, length: int) -> None:
        """The first `length` positions of one slot become those of another."""
        self._make_room(max(source, target), length)
        for tensor in (*self._keys, *self._values):
            tensor[target, :, :length] = tensor[source, :, :length]
        self._filled[target] = max(self._filled[target], length)

    def release(self, slot: int) -> None:
        if slot < len(self._filled) and self._filled[slot]:
            self._filled[slot] = 0
            for tensor in (*self._keys, *self._values):
                give_back(tensor[slot])

    def prepare(self, pieces: Sequence[Piece]) -> Reading:
        """`pieces` in the order of their slots. Makes room for them."""
        self._make_room(pieces[-1].slot, max(piece.start + len(piece.ids) for piece in pieces))
        slots: list[int] = []
        positions: list[int] = []
        alone, single, row = [], [], 0
        for piece in pieces:
            new, end = len(piece.ids), piece.start + len(piece.ids)
            self._filled[piece.slot] = max(self._filled[piece.slot], end)
            slots += [piece.slot] * new
            positions += range(piece.start, end)
            if new == 1:
                single.append((row, piece))
            else:
                alone.append(_Alone(slice(row, row + new), piece.slot, piece.start, self._mask(piece)))
            row += new
        groups = [group for run in _runs(single) for group in _split(run)]
        together = tuple(self._together(group) for group in groups)
        return Reading(torch.tensor(slots), torch.tensor(positions), together, tuple(alone))

    def attend(self, layer: int, reading: Reading, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Writes the step's `keys` and `values` [tokens, kv heads, size] and attends with `queries` [tokens, heads,
        size]; the result is [tokens, heads * size]."""
        all_keys, all_values = self._keys[layer], self._values[layer]
        all_keys[reading.slots, :, reading.positions] = keys
        all_values[reading.slots, :, reading.positions] = values
        heads, kv_heads, size = self._heads, self._kv_heads, self._head_size
        attended = queries.new_empty(len(queries), heads, size)
        for group in reading.together:
            # Query heads that share a key head stand as further queries of that head.
            attended[group.rows] = scaled_dot_product_attention(
                queries[group.rows].view(-1, kv_heads, heads // kv_heads, size),
                all_keys[group.slots, :, : group.end],
                all_values[group.slots, :, : group.end],
                attn_mask=group.mask,
            ).view(-1, heads, size)
        for one in reading.alone:
            new = one.rows.stop - one.rows.start
            end = one.start + new
            answer = scaled_dot_product_attention(
                queries[one.rows].transpose(0, 1).reshape(1, kv_heads, -1, size),
                all_keys[one.slot : one.slot + 1, :, :end],
                all_values[one.slot : one.slot + 1, :, :end],
                attn_mask=one.mask,
            )
            attended[one.rows] = answer.view(heads, new, size).transpose(0, 1)
        return attended.view(len(queries), heads * size)

    def _mask(self, piece: Piece) -> Tensor:
        end = piece.start + len(piece.ids)
        visible = torch.arange(end) <= torch.arange(piece.start, end).unsqueeze(1)
        return visible.repeat(self._heads // self._kv_heads, 1)

    def _together(self, group: "list[tuple[int, Piece]]") -> _Together:
        rows = [row for row, _ in group]
        ends = [piece.start + 1 for _, piece in group]
        neighbours = rows == [*range(rows[0], rows[0] + len(rows))]
        end, mask = max(ends), None
        if min(ends) < end:
            hidden = torch.arange(end) >= torch.tensor(ends).unsqueeze(1)
            mask = torch.zeros(len(ends), end, dtype=self._dtype).masked_fill_(hidden, float("-inf"))
            mask = mask.view(len(ends), 1, 1, end).expand(-1, 1, self._heads // self._kv_heads, -1)
        first = group[0][1].slot
        where = slice(rows[0], rows[0] + len(rows)) if neighbours else torch.tensor(rows)
        return _Together(where, slice(first, first + len(group)), end, mask)

    def _make_room(self, slot: int, end: int) -> None:
        room = self._room or ROOM
        while room < end:
            room *= 2
        if room > self._room or slot >= len(self._filled):
            slots = len(self._filled)
            self._enlarge(slots if slot < slots else max(slot + 1, 2 * slots, FEW), room)

    def _enlarge(self, slots: int, room: int) -> None:
        """Layer by layer, so that hardly more than what is there is in memory at a time."""
        shape = (slots, self._kv_heads, room, self._head_size)
        for tensors in (self._keys, self._values):
            for layer in range(self._layers):
                larger = _zeros(shape, self._dtype)
                if layer < len(tensors):
                    for slot, filled in enumerate(self._filled):
                        larger[slot, :, :filled] = tensors[layer][slot, :, :filled]
                    tensors[layer] = larger
                else:
                    tensors.append(larger)
        self._filled += [0] * (slots - len(self._filled))
        self._room = room


def _zeros(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Zeros that take no memory until they are written to; what pads a shorter sequence must be finite."""
    count = math.prod(shape) * dtype.itemsize
    zeros = torch.from_numpy(numpy.zeros(count, numpy.uint8))
    small_pages(zeros)
    return zeros.view(dtype).view(shape)


def _runs(single: "list[tuple[int, Piece]]") -> "list[list[tuple[int, Piece]]]":
    """Cut where the slots are no neighbours."""
    runs: list[list[tuple[int, Piece]]] = []
    for row, piece in single:
        if runs and runs[-1][-1][1].slot + 1 == piece.slot:
            runs[-1].append((row, piece))
        else:
            runs.append([(row, piece)])
    return runs


def _split(run: "list[tuple[int, Piece]]") -> "list[list[tuple[int, Piece]]]":
    """Takes the longest out while padding the others to it costs more than calls of their own."""
    if not run:
        return []
    ends = [piece.start + 1 for _, piece in run]
    longest = max(range(len(run)), key=ends.__getitem__)
    if len(run) * ends[longest] - sum(ends) <= CALL * len(run):
        return [run]
    return [*_split(run[:longest]), [run[longest]], *_split(run[longest + 1 :])]
