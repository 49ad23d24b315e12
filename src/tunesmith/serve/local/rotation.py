"""Rotary cosines and sines, and what follows where a length changes them."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from tunesmith.serve.engine.model import SequenceChunk
from tunesmith.serve.local.runner import AnyAdapter

POSITIONS = 1024  # whose cosines and sines are computed at first


class Rotation:
    """The rotary cosines and sines of positions, by transformers' own code."""

    def __init__(self, rotary: nn.Module, kinds: Sequence[str | None] = (None,)) -> None:
        """`kinds`: the types of layers that have angles of their own; None: all have the same."""
        self._rotary, self._kinds = rotary, kinds
        self.border = _border(rotary)
        self._cos = self._sin = torch.empty(0, 0, 0)

    def of(self, positions: Tensor, lengths: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """The cosines and the sines [kinds, positions, rotated numbers].

        `lengths`: of each sequence its number of positions here, and the position behind its last.
        """
        end = max(stop for _, stop in lengths)
        if end > self._cos.shape[1]:
            self._extend(max(POSITIONS, 2 * end))
        if self.border is None:
            return self._cos[:, positions], self._sin[:, positions]
        long = torch.tensor([stop > self.border for count, stop in lengths for _ in range(count)]).long()
        return self._cos[long, positions].unsqueeze(0), self._sin[long, positions].unsqueeze(0)

    def _extend(self, positions: int) -> None:
        """Tables of so many positions: one for each kind, or for short and for long sequences."""
        places = torch.arange(positions)
        if self.border is None:
            pairs = [self._angles(places, kind) for kind in self._kinds]
        else:  # transformers takes the larger of the positions that it is asked for
            short, long = self._angles(places[: self.border], None), self._angles(places, None)
            rest = positions - len(short[0])
            pairs = [(_padded(short[0], rest), _padded(short[1], rest)), long]
        self._cos, self._sin = (torch.stack(tables).contiguous() for tables in zip(*pairs, strict=True))

    def _angles(self, places: Tensor, kind: str | None) -> tuple[Tensor, Tensor]:
        further = () if kind is None else (kind,)
        cos, sin = self._rotary(torch.empty(1), places.unsqueeze(0), *further)
        return cos[0].float(), sin[0].float()


def _border(rotary: nn.Module) -> int | None:
    """Sequences longer than this have other angles at all positions; None: every length has the same."""
    if getattr(rotary, "rope_type", None) != "longrope":
        return None
    rope: dict[str, int] = getattr(rotary.config, "rope_parameters")  # noqa: B009 (no attribute of every config)
    return rope["original_max_position_embeddings"]


def _padded(table: Tensor, rows: int) -> Tensor:
    return nn.functional.pad(table, (0, 0, 0, rows))


class Rereading:
    """Reads a sequence anew where its length changes its angles (LongRoPE)."""

    def __init__(self, border: int) -> None:
        self._border = border
        self._ids: dict[int, list[int]] = {}
        self._long: dict[int, bool] = {}  # whether a slot's keys were rotated as those of a long sequence

    def whole(self, chunk: SequenceChunk[AnyAdapter]) -> SequenceChunk[AnyAdapter]:
        """The chunk, or all of its sequence up to the chunk's end."""
        ids = self._ids.setdefault(chunk.slot, [])
        del ids[chunk.start :]
        ids.extend(chunk.ids)
        long = len(ids) > self._border
        other = chunk.start > 0 and long != self._long[chunk.slot]
        self._long[chunk.slot] = long
        return replace(chunk, start=0, ids=tuple(ids)) if other else chunk

    def copy(self, source: int, target: int, length: int) -> None:
        """As the keys and values are copied."""
        self._ids[target], self._long[target] = self._ids[source][:length], self._long[source]

    def clear(self, slot: int) -> None:
        """Forgets a slot."""
        self._ids.pop(slot, None)
        self._long.pop(slot, None)
