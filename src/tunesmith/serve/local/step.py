"""Prepares a step: the tables and buffers that the kernels use."""

from collections.abc import Sequence
from itertools import accumulate
from typing import TypeAlias, cast

import numpy
from numpy import float32, int64, uint8
from numpy.typing import NDArray

from tunesmith.families.array_panels import whole_panels
from tunesmith.families.rotation import Angles
from tunesmith.kernels.dots.pairs import ROUNDED_BYTES
from tunesmith.kernels.dots.products import dot_scratch
from tunesmith.kernels.quantised import scratch_bytes
from tunesmith.kernels.records import Records, new_counters
from tunesmith.kernels.serving.step_args import QUERY_ROWS
from tunesmith.kernels.thread_pool import CACHE_LINE, aligned_zeros
from tunesmith.kernels.vectors import FLOAT_BYTES, LANES, PANEL_ROW_BYTES
from tunesmith.serve.engine.model import SequenceChunk
from tunesmith.serve.local.panels.lora import PanelAdapter
from tunesmith.serve.local.runner import AnyAdapter

Array: TypeAlias = NDArray[int64] | NDArray[float32]


class Steps:
    """Fills in the arguments of a base's steps.

    The fields that describe the model must already be there.

    Keeps the arrays alive that the arguments point to; adapters are kept by the chunks.
    """

    def __init__(self, steps: Records, phases: int, longest: int = 0, widest: int = 0) -> None:
        """`longest`: the most inputs of a matrix in blocks, 0: there is none; `widest`: of one for dot products."""
        self._args, self._longest, self._widest = steps[0], longest, widest
        self._counters = new_counters(phases)
        self._args["counters"] = self._counters.ctypes.data
        self._buffers: dict[str, NDArray[uint8]] = {}
        self._pointed: dict[str, Array] = {}  # kept alive until the step ends

    def fill(self, chunks: "Sequence[SequenceChunk[AnyAdapter]]", rotation: Angles, threads: int) -> NDArray[float32]:
        """Describes a step over `chunks`; returns the array for its logits.

        Its shape is [sum of the chunks' `logits`, vocabulary in whole panels].
        """
        order = sorted(chunks, key=lambda chunk: id(chunk.adapter))  # rows of one adapter must be neighbours
        starts = [*accumulate((len(chunk.ids) for chunk in order), initial=0)]
        rows, end = starts[-1], max(chunk.start + len(chunk.ids) for chunk in chunks)
        first_rows = {chunk.slot: start for chunk, start in zip(order, starts, strict=False)}
        wanted = [row for chunk in chunks for row in _last(chunk, first_rows[chunk.slot])]
        positions = self._write_tables(order, starts, wanted)
        cos, sin = rotation.of(positions, [(len(chunk.ids), chunk.start + len(chunk.ids)) for chunk in order])
        logits = numpy.empty((len(wanted), int(self._args["logits_stride"]) // FLOAT_BYTES), float32)
        self._point(cos=cos, sin=sin, logits=logits)
        self._args["rows"], self._args["logit_count"], self._args["chunks"] = rows, len(wanted), len(order)
        self._make_buffers(rows, threads, end)
        self._counters.fill(0)
        return logits

    def _write_tables(
        self, order: "Sequence[SequenceChunk[AnyAdapter]]", starts: Sequence[int], wanted: list[int]
    ) -> NDArray[int64]:
        """Points at the tables of a step; returns the positions of its rows."""
        group = int(self._args["heads"] // self._args["kv_heads"])
        blocks = [*accumulate((-(-len(chunk.ids) * group // QUERY_ROWS) for chunk in order), initial=0)]
        places = [range(chunk.start, chunk.start + len(chunk.ids)) for chunk in order]
        positions = _table([position for place in places for position in place])
        segments, lora_panels = _segments(order, starts)
        self._args["blocks"], self._args["segments"], self._args["lora_panels"] = blocks[-1], len(segments), lora_panels
        self._point(
            tokens=_table([token for chunk in order for token in chunk.ids]),
            positions=positions,
            slots=_table([chunk.slot for chunk in order for _ in chunk.ids]),
            logit_rows=_table(wanted),
            segment_table=_table(segments),
            chunk_table=_table(
                [
                    (start, len(chunk.ids), chunk.start, chunk.slot, block)
                    for chunk, start, block in zip(order, starts, blocks, strict=False)
                ]
            ),
        )
        return positions

    def _point(self, **arrays: Array) -> None:
        self._pointed.update(arrays)
        for name, array in arrays.items():
            self._args[name] = array.ctypes.data

    def _make_buffers(self, rows: int, threads: int, end: int) -> None:
        args = self._args
        head, head_panels, inner = int(args["head_size"]), int(args["head_panels"]), int(args["inner_panels"])
        columns = head + (head_panels + whole_panels(end)) * LANES  # queries, answers, scores
        scratch = max(QUERY_ROWS * columns * FLOAT_BYTES, scratch_bytes(self._longest, rows), self._dot_scratch())
        args["scratch_bytes"] = -(-scratch // CACHE_LINE) * CACHE_LINE
        self._buffer("scratch", threads * int(args["scratch_bytes"]))
        self._buffer("residual", rows * int(args["hidden_stride"]))
        self._buffer("normed", rows * int(args["hidden_stride"]))
        self._buffer("qkv", rows * int(args["qkv_stride"]))
        self._buffer("attended", rows * int(args["heads"]) * head * FLOAT_BYTES)
        self._buffer("lora_hidden", rows * int(args["lora_panels"]) * PANEL_ROW_BYTES)
        self._buffer("gate_up", rows * 2 * inner * PANEL_ROW_BYTES)
        if args["dots"]:
            self._buffer("rounded", whole_panels(rows) * LANES * self._widest * ROUNDED_BYTES)

    def _dot_scratch(self) -> int:
        return dot_scratch(self._widest) if self._args["dots"] else 0

    def _buffer(self, name: str, size: int) -> None:
        """Makes a buffer of at least `size` bytes, of zeros: padding is computed with and must not be NaN."""
        if name not in self._buffers or self._buffers[name].nbytes < size:
            self._buffers[name] = aligned_zeros(max(size + size // 4, CACHE_LINE))
            self._args[name] = self._buffers[name].ctypes.data


def _table(numbers: Sequence[int] | Sequence[tuple[int, ...]]) -> NDArray[int64]:
    return numpy.array(numbers, int64)


def _last(chunk: "SequenceChunk[AnyAdapter]", first_row: int) -> range:
    """The rows of a chunk that need logits."""
    end = first_row + len(chunk.ids)
    return range(end - chunk.logits, end)


def _segments(
    order: "Sequence[SequenceChunk[AnyAdapter]]", starts: Sequence[int]
) -> tuple[list[tuple[int, int, int]], int]:
    """The rows of each adapter (first, count, its table), and the panels of the widest low-rank product."""
    rows: dict[PanelAdapter, list[int]] = {}
    for chunk, start in zip(order, starts, strict=False):
        if chunk.adapter is not None:
            first_and_count = rows.setdefault(cast(PanelAdapter, chunk.adapter), [start, 0])
            first_and_count[1] += len(chunk.ids)
    segments = [(first, count, adapter.table.ctypes.data) for adapter, (first, count) in rows.items()]
    return segments, max((adapter.lora_panels for adapter in rows), default=0)
