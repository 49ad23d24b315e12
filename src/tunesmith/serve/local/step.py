"""One step, from the scheduler's feeds to what the kernels read: tables, places for what they compute, logits."""

from collections.abc import Sequence
from itertools import accumulate
from typing import cast

import torch
from torch import Tensor, nn

from tunesmith.families.panels import whole_panels
from tunesmith.kernels.step_args import QUERY_ROWS, Records, new_counters
from tunesmith.kernels.thread_pool import CACHE_LINE
from tunesmith.kernels.vectors import FLOAT_BYTES, LANES, PANEL_ROW_BYTES
from tunesmith.serve.engine.scheduler import Feed
from tunesmith.serve.local.adapter_panels import PanelAdapter
from tunesmith.serve.local.runner import AnyAdapter

POSITIONS = 1024  # of which cosines and sines are worked out at first


class Rotation:
    """Cosines and sines of positions, worked out by transformers' own code once each."""

    def __init__(self, rotary: nn.Module) -> None:
        self._rotary = rotary
        self._cos = self._sin = torch.empty(0, 0)

    def of(self, positions: Tensor, end: int) -> tuple[Tensor, Tensor]:
        """[positions, head size] each; all positions are below `end`."""
        if end > len(self._cos):
            cos, sin = self._rotary(torch.empty(1), torch.arange(max(POSITIONS, 2 * end)).unsqueeze(0))
            self._cos, self._sin = cos[0].float().contiguous(), sin[0].float().contiguous()
        return self._cos[positions], self._sin[positions]


class Steps:
    """Fills in a step's arguments, again and again. The model's fields must be there.

    Keeps the arrays alive that the arguments point to; adapters are kept by the feeds.
    """

    def __init__(self, steps: Records, phases: int) -> None:
        self._args = steps[0]
        self._counters = new_counters(phases)
        self._args["counters"] = self._counters.ctypes.data
        self._buffers: dict[str, Tensor] = {}
        self._pointed: dict[str, Tensor] = {}  # to by the arguments, so they must live as long as the step

    def fill(self, feeds: "Sequence[Feed[AnyAdapter]]", rotation: Rotation, threads: int) -> Tensor:
        """Where the step writes its logits [sum of the feeds' `logits`, vocabulary in whole panels]."""
        order = sorted(feeds, key=lambda feed: id(feed.adapter))  # of one adapter side by side
        starts = [*accumulate((len(feed.ids) for feed in order), initial=0)]
        rows, end = starts[-1], max(feed.start + len(feed.ids) for feed in feeds)
        first_rows = {feed.slot: start for feed, start in zip(order, starts, strict=False)}
        wanted = [row for feed in feeds for row in _last(feed, first_rows[feed.slot])]
        self._write_tables(order, starts, wanted)
        cos, sin = rotation.of(self._pointed["positions"], end)
        logits = torch.empty(len(wanted), int(self._args["logits_stride"]) // FLOAT_BYTES)
        self._point(cos=cos, sin=sin, logits=logits)
        self._args["rows"], self._args["logit_count"], self._args["chunks"] = rows, len(wanted), len(order)
        self._make_buffers(rows, threads, end)
        self._counters.fill(0)
        return logits

    def _write_tables(self, order: "Sequence[Feed[AnyAdapter]]", starts: Sequence[int], wanted: list[int]) -> None:
        group = int(self._args["heads"] // self._args["kv_heads"])
        blocks = [*accumulate((-(-len(feed.ids) * group // QUERY_ROWS) for feed in order), initial=0)]
        places = [range(feed.start, feed.start + len(feed.ids)) for feed in order]
        segments, lora_panels = _segments(order, starts)
        self._args["blocks"], self._args["segments"], self._args["lora_panels"] = blocks[-1], len(segments), lora_panels
        self._point(
            tokens=torch.tensor([token for feed in order for token in feed.ids]),
            positions=torch.tensor([position for place in places for position in place]),
            slots=torch.tensor([feed.slot for feed in order for _ in feed.ids]),
            logit_rows=torch.tensor(wanted),
            segment_table=torch.tensor(segments),
            chunk_table=torch.tensor(
                [
                    (start, len(feed.ids), feed.start, feed.slot, block)
                    for feed, start, block in zip(order, starts, blocks, strict=False)
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
        """Of at least `size` bytes. What columns that fill up a panel hold must be a number."""
        if name not in self._buffers or self._buffers[name].nbytes < size:
            self._buffers[name] = torch.zeros(max(size + size // 4, CACHE_LINE), dtype=torch.uint8)
            self._args[name] = self._buffers[name].data_ptr()


def _last(feed: "Feed[AnyAdapter]", first_row: int) -> range:
    """The rows of a feed whose logits are wanted."""
    end = first_row + len(feed.ids)
    return range(end - feed.logits, end)


def _segments(order: "Sequence[Feed[AnyAdapter]]", starts: Sequence[int]) -> tuple[list[tuple[int, int, int]], int]:
    """Neighbouring rows of one adapter: (first, how many, its table); and the most panels of a low-rank product."""
    rows: dict[PanelAdapter, list[int]] = {}
    for feed, start in zip(order, starts, strict=False):
        if feed.adapter is not None:
            first_and_count = rows.setdefault(cast(PanelAdapter, feed.adapter), [start, 0])
            first_and_count[1] += len(feed.ids)
    segments = [(first, count, adapter.table.ctypes.data) for adapter, (first, count) in rows.items()]
    return segments, max((adapter.lora_panels for adapter in rows), default=0)
