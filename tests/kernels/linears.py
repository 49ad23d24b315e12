"""Linears of the same input as one matrix in panels, and adapters of a serving step, beside dense numpy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray
from tests.kernels.reference import Floats, Record, normal, stored, to_panels, whole, wide

from tunesmith.kernels.serving.step_args import (
    LORA_A,
    LORA_COLUMNS,
    LORA_PANELS,
    LORA_PARTS,
    MATRIX,
    PART_COLUMNS,
    SEGMENT_COLUMNS,
)
from tunesmith.kernels.vectors import LANES


@dataclass(frozen=True, slots=True)
class Linears:
    """Weights [outs, ins] of linears that read the same input x [rows, ins], and their biases [outs]."""

    x: Floats
    weights: list[Floats]
    biases: list[Floats]

    @classmethod
    def of(cls, random: numpy.random.Generator, rows: int, ins: int, outs: Sequence[int]) -> "Linears":
        scale = numpy.float32(ins**-0.5)
        weights = [normal(random, count, ins) * scale for count in outs]
        return cls(normal(random, rows, ins), weights, [normal(random, count) for count in outs])

    @property
    def columns(self) -> int:
        """Of the product, each linear's padded to whole panels."""
        return sum(whole(len(weight)) for weight in self.weights)

    def matrix(self, kind: int, bias: int) -> Record:
        panels = numpy.concatenate([to_panels(stored(weight, kind)) for weight in self.weights])
        fields = {
            "kind": kind,
            "weight": panels,
            "panels": len(panels),
            "length": panels.shape[1],
            "panel_stride": panels.strides[0],
        }
        padded = numpy.concatenate([numpy.pad(part, (0, -len(part) % LANES)) for part in self.biases])
        return Record(MATRIX, **fields, **({"bias": padded} if bias else {}))

    def product(self, kind: int, bias: int, x: Floats | None = None) -> Floats:
        """[rows, columns] in float64."""
        x = wide(self.x if x is None else x)
        parts = [
            x @ wide(stored(weight, kind)).T + bias * part
            for weight, part in zip(self.weights, self.biases, strict=True)
        ]
        return numpy.concatenate([numpy.pad(part, ((0, 0), (0, -part.shape[1] % LANES))) for part in parts], 1)


@dataclass(frozen=True, slots=True)
class Adapter:
    """A table as a serving step has it, and the same LoRA matrices dense."""

    table: NDArray[numpy.int64]
    pairs: list[list[tuple[Floats, Floats] | None]]  # of each matrix and part: a [rank, ins], b [outs, rank]
    arrays: list[Floats]

    @classmethod
    def of(cls, random: numpy.random.Generator, matrices: Sequence[Linears | None], ranks: Sequence[int]) -> "Adapter":
        """`ranks`: of each matrix's parts, 0 for none."""
        adapter = cls(numpy.zeros((len(matrices), LORA_COLUMNS), numpy.int64), [], [])
        for row, linears in zip(adapter.table, matrices, strict=True):
            adapter.pairs.append(adapter._fill(random, row, linears, ranks) if linears else [])
        return adapter

    def _fill(
        self, random: numpy.random.Generator, row: NDArray[numpy.int64], linears: Linears, ranks: Sequence[int]
    ) -> list[tuple[Floats, Floats] | None]:
        pairs: list[tuple[Floats, Floats] | None] = []
        offset = panel = 0
        for number, (weight, rank) in enumerate(zip(linears.weights, ranks, strict=False)):
            outs, ins = weight.shape
            panels = whole(outs) // LANES
            pair = (normal(random, rank, ins) * 0.3, normal(random, outs, rank) * 0.3) if rank else None
            pairs.append(pair)
            if pair:
                self.arrays.append(to_panels(pair[1]))
                place = LORA_PARTS + number * PART_COLUMNS
                b = self.arrays[-1].ctypes.data
                row[place : place + PART_COLUMNS] = b, offset, rank, panel, panel + panels
                offset += whole(rank)
            panel += panels
        if a := [to_panels(pair[0]) for pair in pairs if pair]:
            self.arrays.append(numpy.concatenate(a))
            row[LORA_A], row[LORA_PANELS] = self.arrays[-1].ctypes.data, offset // LANES
        return pairs

    def hidden(self, x: Floats, matrix: int) -> Floats:
        """x @ a^T [rows, width] in float64, each part's padded to whole panels."""
        parts = [x @ wide(pair[0]).T for pair in self.pairs[matrix] if pair]
        return numpy.concatenate([numpy.pad(part, ((0, 0), (0, -part.shape[1] % LANES))) for part in parts], 1)

    def update(self, x: Floats, matrix: int, outs: Sequence[int]) -> Floats:
        """What is added to the product [rows, columns]."""
        parts = [
            x @ wide(pair[0]).T @ wide(pair[1]).T if pair else numpy.zeros((len(x), count))
            for pair, count in zip(self.pairs[matrix], outs, strict=True)
        ]
        return numpy.concatenate([numpy.pad(part, ((0, 0), (0, -part.shape[1] % LANES))) for part in parts], 1)


def segments_of(
    adapters: Sequence[Adapter], x: Floats, matrix: int
) -> tuple[NDArray[numpy.int64], int, Floats, Floats]:
    """A table of segments, the width of `lora_hidden`, that in float32, and the adapters' updates.

    The first adapter has half the rows, the second the others but for the last one.
    """
    rows = len(x)
    first = (rows + 1) // 2
    counts = [count for count in (first, rows - first - 1) if count > 0]
    starts = [0, first][: len(counts)]
    segments = numpy.array(
        [
            (start, count, adapter.table.ctypes.data)
            for start, count, adapter in zip(starts, counts, adapters, strict=False)
        ]
    )
    assert segments.shape[1] == SEGMENT_COLUMNS
    width = LANES * max(int(adapter.table[matrix, LORA_PANELS]) for adapter in adapters)
    hidden = numpy.zeros((rows, width), numpy.float32)
    outs = [len(pair[1]) if pair else 0 for pair in adapters[0].pairs[matrix]]
    updates = numpy.zeros((rows, sum(map(whole, outs))))
    for start, count, adapter in zip(starts, counts, adapters, strict=False):
        here, part = slice(start, start + count), adapter.hidden(x[start : start + count], matrix)
        hidden[here, : part.shape[1]] = part
        updates[here] = adapter.update(x[here], matrix, outs)
    return segments, width, hidden, updates
