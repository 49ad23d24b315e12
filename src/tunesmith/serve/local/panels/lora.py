"""LoRA adapters packed into the panels that the kernels read."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy
from numpy.typing import NDArray

from tunesmith.families.array_panels import Weights, pack, panel_bytes, whole_panels
from tunesmith.kernels.serving.step_args import LORA_A, LORA_COLUMNS, LORA_PANELS, LORA_PARTS, PART_COLUMNS
from tunesmith.kernels.vectors import LANES
from tunesmith.serve.local.adapters import LowRank
from tunesmith.system.pages import ArraySlab, SpareSlab


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One of the model's linears, and how its outputs are packed."""

    path: str  # of the module; adapters have it too
    sizes: tuple[int, ...]  # of pieces that begin a panel each, such as the queries, keys and values of one linear
    order: NDArray[numpy.int64] | None = None  # in which its outputs are packed; None: as they are

    @property
    def panels(self) -> int:
        """How many panels its outputs fill."""
        return sum(map(whole_panels, self.sizes))

    def pieces(self, outputs: Weights) -> list[Weights]:
        """Outputs [O, …] as they are packed."""
        ordered, ends = outputs if self.order is None else outputs[self.order], [*accumulate(self.sizes)]
        return [ordered[end - size : end] for size, end in zip(self.sizes, ends, strict=True)]


@dataclass(frozen=True, slots=True, eq=False)
class PanelAdapter:
    """An adapter's updates of all matrices: see `kernels.serving.step_args`."""

    table: NDArray[numpy.int64]  # [matrices, LORA_COLUMNS]
    slab: ArraySlab  # holds the arrays that the table points to
    nbytes: int

    @property
    def lora_panels(self) -> int:
        """Panels of the widest product with an A matrix."""
        return int(self.table[:, LORA_PANELS].max())


def pack_adapter(
    updates: Sequence[Sequence[LowRank | None]], parts: Sequence[Sequence[Part]], memory: SpareSlab
) -> PanelAdapter:
    """Packs an adapter's updates.

    `updates`: for each matrix, the updates of its parts, None for a part without one.
    """
    table = numpy.zeros((len(updates), LORA_COLUMNS), numpy.int64)
    size = sum(_bytes(lows, of_matrix) for lows, of_matrix in zip(updates, parts, strict=True))
    slab = memory.take(size)
    for row, lows, of_matrix in zip(table, updates, parts, strict=True):
        if not any(lows):
            continue
        a = pack([low.a for low in lows if low], "float32", slab)
        row[LORA_A], row[LORA_PANELS] = a.ctypes.data, len(a)
        offset = panel = 0
        for number, (low, part) in enumerate(zip(lows, of_matrix, strict=True)):
            if low is not None:
                b, rank = pack(part.pieces(low.b), "float32", slab), low.a.shape[0]
                b *= numpy.float32(low.scale)
                place = LORA_PARTS + number * PART_COLUMNS
                row[place : place + PART_COLUMNS] = b.ctypes.data, offset, rank, panel, panel + len(b)
                offset += whole_panels(rank) * LANES
            panel += part.panels
    return PanelAdapter(table, slab, size)


def _bytes(lows: Sequence[LowRank | None], parts: Sequence[Part]) -> int:
    """What the updates of one matrix take of a slab."""
    known = [(low, part) for low, part in zip(lows, parts, strict=True) if low is not None]
    if not known:
        return 0
    b_bytes = (panel_bytes(part.pieces(low.b), "float32") for low, part in known)
    return panel_bytes([low.a for low, _ in known], "float32") + sum(b_bytes)
