"""Sequences whose length changes the angles of all their positions."""

from dataclasses import replace

from tunesmith.serve.engine.model import SequenceChunk
from tunesmith.serve.local.runner import AnyAdapter


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
