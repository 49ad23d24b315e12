"""Prepares a step: the tables and buffers that the kernels use."""

from collections.abc import Sequence
from itertools import accumulate
from typing import cast

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tunesmith.families.panels import whole_panels
from tunesmith.kernels.step_args import COUNTER_BYTES, QUERY_ROWS
from tunesmith.kernels.vectors import LANES
from tunesmith.serve.engine.scheduler import SequenceChunk
from tunesmith.serve.local.adapter_panels import PanelAdapter
from tunesmith.serve.local.runner import AnyAdapter

POSITIONS = 1024  # whose cosines and sines are computed at first


class Rotation:
    """The rotary cosines and sines of positions, by transformers' own code."""

    def __init__(self, rotary: nn.Module) -> None:
        self._rotary = rotary
        self._cos = self._sin = torch.empty(0, 0)

    def of(self, positions: Tensor, end: int) -> tuple[Tensor, Tensor]:
        """The cosines and the sines [positions, head size] of positions below `end`."""
        if end > len(self._cos):
            cos, sin = self._rotary(torch.empty(1), torch.arange(max(POSITIONS, 2 * end)).unsqueeze(0))
            self._cos, self._sin = cos[0].float().contiguous(), sin[0].float().contiguous()
        return self._cos[positions], self._sin[positions]


class Steps:
    """Fills in the arguments of a base's steps.

    The fields that describe the model must already be there.
    """

    def __init__(self, jobs: NDArray[numpy.void], phases: int) -> None:
        self._job = jobs[0]
        self._counters = numpy.zeros(phases * COUNTER_BYTES // 8, numpy.int64)
        self._job["counters"] = self._counters.ctypes.data
        self._buffers: dict[str, Tensor] = {}
        self._pointed: dict[str, Tensor] = {}  # kept alive until the step ends

    def fill(self, chunks: "Sequence[SequenceChunk[AnyAdapter]]", rotation: Rotation, threads: int) -> Tensor:
        """Describes a step over `chunks`; returns the tensor for its logits.

        Its shape is [sum of the chunks' `logits`, vocabulary in whole panels].
        """
        order = sorted(chunks, key=lambda chunk: id(chunk.adapter))  # rows of one adapter must be neighbours
        starts = [*accumulate((len(chunk.ids) for chunk in order), initial=0)]
        rows, end = starts[-1], max(chunk.start + len(chunk.ids) for chunk in chunks)
        first_rows = {chunk.slot: start for chunk, start in zip(order, starts, strict=False)}
        wanted = [row for chunk in chunks for row in _last(chunk, first_rows[chunk.slot])]
        self._write_tables(order, starts, wanted)
        cos, sin = rotation.of(self._pointed["positions"], end)
        logits = torch.empty(len(wanted), int(self._job["logits_stride"]) // 4)
        self._point(cos=cos, sin=sin, logits=logits)
        self._job["rows"], self._job["wanted"], self._job["feeds"] = rows, len(wanted), len(order)
        self._make_buffers(rows, threads, end)
        self._counters.fill(0)
        return logits

    def _write_tables(
        self, order: "Sequence[SequenceChunk[AnyAdapter]]", starts: Sequence[int], wanted: list[int]
    ) -> None:
        group = int(self._job["heads"] // self._job["kv_heads"])
        blocks = [*accumulate((-(-len(chunk.ids) * group // QUERY_ROWS) for chunk in order), initial=0)]
        places = [range(chunk.start, chunk.start + len(chunk.ids)) for chunk in order]
        segments, low_panels = _segments(order, starts)
        self._job["blocks"], self._job["segments"], self._job["low_panels"] = blocks[-1], len(segments), low_panels
        self._point(
            tokens=torch.tensor([token for chunk in order for token in chunk.ids]),
            positions=torch.tensor([position for place in places for position in place]),
            slots=torch.tensor([chunk.slot for chunk in order for _ in chunk.ids]),
            wanted_rows=torch.tensor(wanted),
            segment_table=torch.tensor(segments),
            feed_table=torch.tensor(
                [
                    (start, len(chunk.ids), chunk.start, chunk.slot, block)
                    for chunk, start, block in zip(order, starts, blocks, strict=False)
                ]
            ),
        )

    def _point(self, **tensors: Tensor) -> None:
        self._pointed.update(tensors)
        for name, tensor in tensors.items():
            self._job[name] = tensor.data_ptr()

    def _make_buffers(self, rows: int, threads: int, end: int) -> None:
        job = self._job
        head, head_panels, inner = int(job["head"]), int(job["head_panels"]), int(job["inner_panels"])
        columns = head + (head_panels + whole_panels(end)) * LANES  # queries, answers, scores
        job["scratch_bytes"] = -(-QUERY_ROWS * columns * 4 // COUNTER_BYTES) * COUNTER_BYTES
        self._buffer("scratch", threads * int(job["scratch_bytes"]))
        self._buffer("stream", rows * int(job["hidden_stride"]))
        self._buffer("normed", rows * int(job["hidden_stride"]))
        self._buffer("qkv", rows * int(job["qkv_stride"]))
        self._buffer("attended", rows * int(job["heads"]) * head * 4)
        self._buffer("low", rows * int(job["low_panels"]) * LANES * 4)
        self._buffer("gated", rows * 2 * inner * LANES * 4)

    def _buffer(self, name: str, size: int) -> None:
        """Makes a buffer of at least `size` bytes, of zeros: padding is computed with and must not be NaN."""
        if name not in self._buffers or self._buffers[name].nbytes < size:
            self._buffers[name] = torch.zeros(max(size + size // 4, COUNTER_BYTES), dtype=torch.uint8)
            self._job[name] = self._buffers[name].data_ptr()


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
    return segments, max((adapter.low_panels for adapter in rows), default=0)
