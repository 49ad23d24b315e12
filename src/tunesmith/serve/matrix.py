"""A weight matrix laid out for the CPU's fastest product: oneDNN's blocked layout where this torch has it.

Elsewhere it is torch's own `linear`. The values are the same; only the order of sums differs.
"""

import torch
from torch import Tensor

_PACKS = hasattr(torch.ops.mkldnn, "_reorder_linear_weight")  # absent where torch was built without oneDNN
_TYPICAL_ROWS = 8  # the layout is chosen for so many; it serves all others too


class Matrix:
    """`matrix(x)` is `x @ weight.T`; `matrix.add(x, to)` adds `to`."""

    def __init__(self, weight_OI: Tensor) -> None:
        packs = _PACKS and weight_OI.dtype == torch.float32 and weight_OI.device.type == "cpu"
        self._packed = packs
        self._weight = _pack(weight_OI) if packs else weight_OI.contiguous()

    def __call__(self, inputs_NI: Tensor) -> Tensor:
        if not self._packed:
            return torch.nn.functional.linear(inputs_NI, self._weight)
        output: Tensor = torch.ops.mkldnn._linear_pointwise(inputs_NI, self._weight, None, "none", [], "")
        return output

    def add(self, inputs_NI: Tensor, to_NO: Tensor) -> Tensor:
        if not self._packed:
            return torch.nn.functional.linear(inputs_NI, self._weight).add_(to_NO)
        output: Tensor = torch.ops.mkldnn._linear_pointwise.binary(inputs_NI, to_NO, self._weight, None, "add")
        return output


def _pack(weight_OI: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight_OI.contiguous(), _TYPICAL_ROWS)
    return packed
