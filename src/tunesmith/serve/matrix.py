"""A weight matrix laid out for the CPU's fastest product.

In float32: oneDNN's blocked layout where this torch has it, else torch's own `linear`; the values are the same, only
the order of sums differs. In float16: FBGEMM's packed matrix, whose values are widened to float32 as they are read and
multiplied and summed in float32. A token at a time has to read all weights, so half the bytes is most of the time; what
rounding them costs in accuracy is for `narrow.py` to find out.
"""

from typing import Literal, TypeAlias

import torch
from torch import Tensor

Width: TypeAlias = Literal["float32", "float16"]

_PACKS = hasattr(torch.ops.mkldnn, "_reorder_linear_weight")  # absent where torch was built without oneDNN
_TYPICAL_ROWS = 8  # the layout is chosen for so many; it serves all others too
_LARGEST = torch.finfo(torch.float16).max


class Matrix:
    """`matrix(x)` is `x @ weight.T`; `matrix.add(x, to)` adds `to`."""

    def __init__(self, weight_OI: Tensor, width: Width = "float32") -> None:
        on_cpu = weight_OI.dtype == torch.float32 and weight_OI.device.type == "cpu"
        self._half = torch.ops.quantized.linear_prepack_fp16(weight_OI, None) if width == "float16" else None
        self._packed = _PACKS and on_cpu and self._half is None
        if self._half is None:
            self._weight = _pack(weight_OI) if self._packed else weight_OI.contiguous()

    def __call__(self, inputs_NI: Tensor) -> Tensor:
        if self._half is not None:
            output: Tensor = torch.ops.quantized.linear_dynamic_fp16(inputs_NI, self._half)
        elif self._packed:
            output = torch.ops.mkldnn._linear_pointwise(inputs_NI, self._weight, None, "none", [], "")
        else:
            output = torch.nn.functional.linear(inputs_NI, self._weight)
        return output

    def add(self, inputs_NI: Tensor, to_NO: Tensor) -> Tensor:
        if not self._packed:
            return self(inputs_NI).add_(to_NO)
        output: Tensor = torch.ops.mkldnn._linear_pointwise.binary(inputs_NI, to_NO, self._weight, None, "add")
        return output


def has_half() -> bool:
    """Does this torch multiply with float16 matrices on this processor?"""
    try:
        Matrix(torch.zeros(8, 8), "float16")(torch.zeros(1, 8))
    except (RuntimeError, NotImplementedError):
        return False
    return True


def fits_half(weight: Tensor) -> bool:
    """True when every value is one of float16, as nearly all of a bfloat16 model's are: nothing is lost then."""
    return torch.equal(weight.half().float(), weight)


def overflows_half(weight: Tensor) -> bool:
    return bool(weight.abs().max() > _LARGEST)


def _pack(weight_OI: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight_OI.contiguous(), _TYPICAL_ROWS)
    return packed
