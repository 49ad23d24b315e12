"""Matrices laid out as the compiled kernels read them: panels of 16 outputs.

Serving and training share it; `kernels.multiply` says what panels are for.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tunesmith.families.array_panels import Width, whole_panels
from tunesmith.kernels.vectors import HAS_HALF, LANES, Number
from tunesmith.system.pages import Slab, slab_bytes

DTYPES: dict[Width, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
KINDS = {torch.float32: Number.FLOAT32, torch.float16: Number.FLOAT16, torch.bfloat16: Number.BFLOAT16}
"""What the kernels call the formats of a matrix."""


def panel_width(stored: Width) -> Width:
    """The width of panels that hold weights stored like this without rounding.

    float32 for float16 on a processor that does not read it.
    """
    return "float32" if stored == "float16" and not HAS_HALF else stored


def stored_width(dtype: torch.dtype) -> Width:
    """The width of panels of weights of this type, as `panel_width` has it.

    float32 for any other type.
    """
    return panel_width(next((width for width, known in DTYPES.items() if known == dtype), "float32"))


def pack(parts_OI: Sequence[Tensor], width: Width, slab: Slab) -> Tensor:
    """Matrices over the same input as panels [panels, I, 16].

    Each matrix begins a panel of its own, and zeros pad its last one.
    """
    inputs = parts_OI[0].shape[1]
    packed = slab.take((_panels(parts_OI), inputs, LANES), DTYPES[width])
    first = 0
    for part in parts_OI:
        whole, rest = divmod(len(part), LANES)
        packed[first : first + whole] = part[: whole * LANES].view(whole, LANES, inputs).transpose(1, 2)
        if rest:
            packed[first + whole, :, :rest] = part[whole * LANES :].T
            packed[first + whole, :, rest:] = 0
        first += whole_panels(len(part))
    return packed


def packed_bytes(parts_OI: Sequence[Tensor], width: Width) -> int:
    """The bytes that `pack` takes from a slab."""
    return slab_bytes(_panels(parts_OI) * parts_OI[0].shape[1] * LANES * DTYPES[width].itemsize)


def _panels(parts_OI: Sequence[Tensor]) -> int:
    return sum(whole_panels(len(part)) for part in parts_OI)


def pack_bias(parts_O: Sequence[Tensor]) -> Tensor:
    """The biases of such matrices in float32, each padded to whole panels."""
    return torch.cat([torch.nn.functional.pad(part.float(), (0, -len(part) % LANES)) for part in parts_O])


def pack_back(parts_OI: Sequence[Tensor], width: Width, slab: Slab) -> Tensor:
    """The matrices stacked and transposed, as panels [I / 16, O, 16].

    For products from the outputs' side. I and each O are multiples of 16.
    """
    inputs = parts_OI[0].shape[1]
    packed = slab.take((inputs // LANES, sum(map(len, parts_OI)), LANES), DTYPES[width])
    first = 0
    for part in parts_OI:
        packed[:, first : first + len(part)] = part.view(len(part), -1, LANES).transpose(0, 1)
        first += len(part)
    return packed
