"""Matrices laid out as the compiled kernels read them: panels of 16 outputs.

Serving and training share it; `kernels.multiply` says what panels are for.
"""

from collections.abc import Callable, Sequence
from typing import cast

import numpy
import torch
from torch import Tensor

from tunesmith.families.array_panels import (
    CHUNK,
    QUANTISED,
    Weights,
    Width,
    narrowest,
    packing,
    row_bytes,
    whole_panels,
    widen_panels,
)
from tunesmith.kernels.vectors import HAS_HALF, LANES, Number
from tunesmith.settings import Quantization
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


def pack(
    parts_OI: Sequence[Tensor], width: Width, slab: Slab, done: Callable[[Tensor], None] = lambda _rows: None
) -> Tensor:
    """Matrices over the same input as panels [panels, I, 16].

    Rounded to blocks: as bytes [panels, n]. Each matrix begins a panel of its own, and zeros pad its last one. `done`:
    is told of rows that are packed, some MB at a time; it may free their memory.
    """
    inputs = parts_OI[0].shape[1]
    if width in QUANTISED:
        return _rounded(parts_OI, width, slab, done)
    packed = slab.take((_panels(parts_OI), inputs, LANES), DTYPES[width])
    step, first = max(1, CHUNK // (LANES * inputs)) * LANES, 0
    for part in parts_OI:
        for start in range(0, len(part), step):
            rows = part[start : start + step]
            _fill(packed[first : first + whole_panels(len(rows))], rows)
            done(rows)
            first += whole_panels(len(rows))
    return packed


def _fill(panels: Tensor, rows: Tensor) -> None:
    whole, rest = divmod(len(rows), LANES)
    panels[:whole] = rows[: whole * LANES].view(whole, LANES, rows.shape[1]).transpose(1, 2)
    if rest:
        panels[whole, :, :rest] = rows[whole * LANES :].T
        panels[whole, :, rest:] = 0


def packed_bytes(parts_OI: Sequence[Tensor], width: Width) -> int:
    """The bytes that `pack` takes from a slab."""
    return slab_bytes(_panels(parts_OI) * row_bytes(parts_OI[0].shape[1], width))


def frozen_width(inputs: int, quantization: Quantization, stored: Width, *, head: bool = False) -> Width:
    """The format in memory of a frozen matrix of so many inputs.

    The output layer, which decides between near tokens, keeps 8 bits.
    """
    if quantization != "int8" and quantization != "int4":
        return stored
    return narrowest(inputs, "int8" if head else quantization, stored)


def dequantised(weight_OI: Tensor, width: Width) -> Tensor:
    """What a matrix stands for once it is rounded to blocks, in float32."""
    inputs, memory = weight_OI.shape[1], torch.empty(packed_bytes([weight_OI], width), dtype=torch.uint8)
    packed, wide = pack([weight_OI], width, Slab(memory)), torch.empty(whole_panels(len(weight_OI)), inputs, LANES)
    widen_panels(cast(Weights, packed.numpy()), width, wide.numpy())
    return wide.transpose(1, 2).reshape(-1, inputs)[: len(weight_OI)]


def _rounded(parts_OI: Sequence[Tensor], width: Width, slab: Slab, done: Callable[[Tensor], None]) -> Tensor:
    """By the code that serving rounds with."""
    packed = slab.take((_panels(parts_OI), row_bytes(parts_OI[0].shape[1], width)), torch.uint8)
    for piece, _ in packing([*map(_array, parts_OI)], cast(Weights, packed.numpy()), width):
        piece()
    for part in parts_OI:
        done(part)
    return packed


def _array(tensor: Tensor) -> Weights:
    if tensor.dtype == torch.bfloat16:
        return cast(Weights, tensor.view(torch.int16).numpy().view(numpy.uint16))
    return cast(Weights, tensor.numpy())


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
