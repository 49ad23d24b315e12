"""Weights and adapters laid out as the kernels read them: panels of 16 columns (`kernels.multiply`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from tunesmith.kernels.job import LOW_A, LOW_COLUMNS, LOW_PANELS, LOW_PARTS, PART_COLUMNS
from tunesmith.kernels.vectors import LANES
from tunesmith.models.pages import Slab, slab_bytes
from tunesmith.serve.lora import LowRank

Width: TypeAlias = Literal["float32", "float16"]
DTYPES: dict[Width, torch.dtype] = {"float32": torch.float32, "float16": torch.float16}


def whole_panels(columns: int) -> int:
    """How many panels `columns` fill."""
    return -(-columns // LANES)


def pack(parts_OI: Sequence[Tensor], width: Width, slab: Slab) -> Tensor:
    """Matrices over the same input as panels [panels, I, 16], each in panels of its own that zeros fill up."""
    inputs = parts_OI[0].shape[1]
    packed = slab.zeros((_panels(parts_OI), inputs, LANES), DTYPES[width])
    first = 0
    for part in parts_OI:
        whole, rest = divmod(len(part), LANES)
        packed[first : first + whole] = part[: whole * LANES].view(whole, LANES, inputs).transpose(1, 2)
        if rest:
            packed[first + whole, :, :rest] = part[whole * LANES :].T
        first += whole_panels(len(part))
    return packed


def packed_bytes(parts_OI: Sequence[Tensor], width: Width) -> int:
    """What `pack` takes of a slab."""
    return slab_bytes(_panels(parts_OI) * parts_OI[0].shape[1] * LANES * DTYPES[width].itemsize)


def _panels(parts_OI: Sequence[Tensor]) -> int:
    return sum(whole_panels(len(part)) for part in parts_OI)


def pack_bias(parts_O: Sequence[Tensor]) -> Tensor:
    return torch.cat([torch.nn.functional.pad(part.float(), (0, -len(part) % LANES)) for part in parts_O])


@dataclass(frozen=True, slots=True, eq=False)
class PanelAdapter:
    """An adapter's update of every line, see `kernels.job`."""

    table: NDArray[numpy.int64]  # [lines, LOW_COLUMNS]
    slab: Slab  # into which the table points
    nbytes: int

    @property
    def low_panels(self) -> int:
        return int(self.table[:, LOW_PANELS].max())


def pack_adapter(lines: Sequence[Sequence[LowRank | None]], sizes: Sequence[Sequence[int]]) -> PanelAdapter:
    """`lines`: of every line the updates of its parts, None where one has none; `sizes`: outputs of these parts."""
    table = numpy.zeros((len(lines), LOW_COLUMNS), numpy.int64)
    lows = [[low for low in parts if low is not None] for parts in lines]
    size = sum(
        packed_bytes([low.a for low in known], "float32") + sum(packed_bytes([low.b], "float32") for low in known)
        for known in lows
        if known
    )
    slab = Slab(size)
    for row, parts, known, outputs in zip(table, lines, lows, sizes, strict=True):
        if not known:
            continue
        a = pack([low.a for low in known], "float32", slab)
        row[LOW_A], row[LOW_PANELS] = a.data_ptr(), len(a)
        offset = panel = 0
        for number, (low, outs) in enumerate(zip(parts, outputs, strict=True)):
            if low is not None:
                b, rank = pack([low.b], "float32", slab).mul_(low.scale), low.a.shape[0]
                place = LOW_PARTS + number * PART_COLUMNS
                row[place : place + PART_COLUMNS] = b.data_ptr(), offset, rank, panel, panel + len(b)
                offset += whole_panels(rank) * LANES
            panel += whole_panels(outs)
    return PanelAdapter(table, slab, size)
