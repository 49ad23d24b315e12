"""LoRA adapters packed into the panels that the kernels read."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from tunesmith.families.array_panels import pack, panel_bytes, whole_panels
from tunesmith.kernels.serving.step_args import LORA_A, LORA_COLUMNS, LORA_PANELS, LORA_PARTS, PART_COLUMNS
from tunesmith.kernels.vectors import LANES
from tunesmith.serve.local.adapters import LowRank
from tunesmith.system.pages import ArraySlab, SpareSlab


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
    lines: Sequence[Sequence[LowRank | None]], sizes: Sequence[Sequence[int]], memory: SpareSlab
) -> PanelAdapter:
    """Packs an adapter's updates.

    `lines`: for each matrix, the updates of its parts, None for a part without one. `sizes`: the parts' outputs.
    """
    table = numpy.zeros((len(lines), LORA_COLUMNS), numpy.int64)
    lows = [[low for low in parts if low is not None] for parts in lines]
    size = sum(
        panel_bytes([low.a for low in known], "float32") + sum(panel_bytes([low.b], "float32") for low in known)
        for known in lows
        if known
    )
    slab = memory.take(size)
    for row, parts, known, outputs in zip(table, lines, lows, sizes, strict=True):
        if not known:
            continue
        a = pack([low.a for low in known], "float32", slab)
        row[LORA_A], row[LORA_PANELS] = a.ctypes.data, len(a)
        offset = panel = 0
        for number, (low, outs) in enumerate(zip(parts, outputs, strict=True)):
            if low is not None:
                b, rank = pack([low.b], "float32", slab), low.a.shape[0]
                b *= numpy.float32(low.scale)
                place = LORA_PARTS + number * PART_COLUMNS
                row[place : place + PART_COLUMNS] = b.ctypes.data, offset, rank, panel, panel + len(b)
                offset += whole_panels(rank) * LANES
            panel += whole_panels(outs)
    return PanelAdapter(table, slab, size)
