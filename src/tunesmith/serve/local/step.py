"""Prepares a step: the tables and buffers that the kernels use."""

from collections.abc import Sequence
from itertools import accumulate
from typing import cast

import torch
from torch import Tensor

from tunesmith.families.panels import whole_panels
from tunesmith.kernels.records import Records, new_counters
from tunesmith.kernels.serving.step_args import QUERY_ROWS
from tunesmith.kernels.thread_pool import CACHE_LINE
from tunesmith.kernels.vectors import FLOAT_BYTES, LANES, PANEL_ROW_BYTES
from tunesmith.serve.engine.model import SequenceChunk
from tunesmith.serve.local.adapter_panels import PanelAdapter
from tunesmith.serve.local.rotation import Rotation
from tunesmith.serve.local.runner import AnyAdapter


class Steps:
    """Fills in the arguments of a base's steps.

    The fields that describe the model must already be there.

    Keeps the arrays alive that the arguments point to; adapters are kept by the chunks.
    """

    def __init__(self, steps: Records, phases: int) -> None:
        self._args = steps[0]
        self._counters = new_counters(phases)
        self._args["counters"] = self._counters.ctypes.data
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
        lengths = [(len(chunk.ids), chunk.start + len(chunk.ids)) for chunk in order]
        cos, sin = rotation.of(self._pointed["positions"], lengths)
        logits = torch.empty(len(wanted), int(self._args["logits_stride"]) // FLOAT_BYTES)
        self._point(cos=cos, sin=sin, logits=logits)
        self._args["rows"], self._args["logit_count"], self._args["chunks"] = rows, len(wanted), len(order)
        self._make_buffers(rows, threads, end)
        self._counters.fill(0)
        return logits

    def _write_tables(
        self, order: "Sequence[SequenceChunk[AnyAdapter]]", starts: Sequence[int], wanted: list[int]
    ) -> None:
        group = int(self._args["heads"] // self._args["kv_heads"])
        blocks = [*accumulate((-(-len(chunk.ids) * group // QUERY_ROWS) for chunk in order), initial=0)]
        places = [range(chunk.start, chunk.start + len(chunk.ids)) for chunk in order]
        segments, lora_panels = _segments(order, starts)
        self._args["blocks"], self._args["segments"], self._args["lora_panels"] = blocks[-1], len(segments), lora_panels
        self._point(
            tokens=torch.tensor([token for chunk in order for token in chunk.ids]),
            positions=torch.tensor([position for place in places for position in place]),
            slots=torch.tensor([chunk.slot for chunk in order for _ in chunk.ids]),
            logit_rows=torch.tensor(wanted),
            segment_table=torch.tensor(segments),
            chunk_table=torch.tensor(
                [
                    (start, len(chunk.ids), chunk.start, chunk.slot, block)
                    for chunk, start, block in zip(order, starts, blocks, strict=False)
                ]
            ),
        )

    def _point(self, **tensors: Tensor) -> None:
        self._pointed.update(tensors)
        for name, tensor in tensors.items():
            self._args[name] = tensor.data_ptr()

    def _make_buffers(self, rows: int, threads: int, end: int) -> None:
        args = self._args
        head, head_panels, inner = int(args["head_size"]), int(args["head_panels"]), int(args["inner_panels"])
        columns = head + (head_panels + whole_panels(end)) * LANES  # queries, answers, scores
        args["scratch_bytes"] = -(-QUERY_ROWS * columns * FLOAT_BYTES // CACHE_LINE) * CACHE_LINE
        self._buffer("scratch", threads * int(args["scratch_bytes"]))
        self._buffer("residual", rows * int(args["hidden_stride"]))
        self._buffer("normed", rows * int(args["hidden_stride"]))
        self._buffer("qkv", rows * int(args["qkv_stride"]))
        self._buffer("attended", rows * int(args["heads"]) * head * FLOAT_BYTES)
        self._buffer("lora_hidden", rows * int(args["lora_panels"]) * PANEL_ROW_BYTES)
        self._buffer("gate_up", rows * 2 * inner * PANEL_ROW_BYTES)

    def _buffer(self, name: str, size: int) -> None:
        """Makes a buffer of at least `size` bytes, of zeros: padding is computed with and must not be NaN."""
        if name not in self._buffers or self._buffers[name].nbytes < size:
            self._buffers[name] = torch.zeros(max(size + size // 4, CACHE_LINE), dtype=torch.uint8)
            self._args[name] = self._buffers[name].data_ptr()


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
