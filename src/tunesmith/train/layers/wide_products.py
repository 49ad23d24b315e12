"""Products of 16-bit matrices whose results are kept in float32.

Logits are what this is for: bfloat16 rounds one of 20 to an eighth, and a softmax in float32 gives none of that back.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

BLOCK_OUTPUTS = 1 << 14  # rows of a matrix that are converted at once, where no product does it by itself


def is_narrow(tensor: Tensor) -> bool:
    """Whether the values are in 16 bits."""
    return tensor.is_floating_point() and tensor.dtype.itemsize < torch.float32.itemsize


def wide_product(x_NI: Tensor, weight_OI: Tensor, bias: Tensor | None = None) -> Tensor:
    """The product x W^T + bias [N, out], in float32 at least."""
    if not is_narrow(weight_OI):
        weight = weight_OI.t()
        return torch.mm(x_NI, weight) if bias is None else torch.addmm(bias, x_NI, weight)
    if x_NI.device.type == "cuda":  # its sums are in float32 anyway
        y = torch.mm(x_NI, weight_OI.t(), out_dtype=torch.float32)
    else:
        wide = x_NI.float()
        y = torch.cat([wide @ part.float().t() for part in weight_OI.split(BLOCK_OUTPUTS)], -1)
    return y if bias is None else y.add_(bias)


class WideHead(torch.autograd.Function):
    """An output layer with a frozen 16-bit matrix and logits in float32."""

    @staticmethod
    def forward(ctx: FunctionCtx, hidden: Tensor, weight_VD: Tensor, bias: Tensor | None) -> Tensor:
        """See the class."""
        ctx.save_for_backward(weight_VD)
        return wide_product(hidden.flatten(0, -2), weight_VD, bias).view(*hidden.shape[:-1], -1)

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor, None, None]:
        """See the class."""
        (weight_VD,) = cast(tuple[Tensor], ctx.saved_tensors)  # type: ignore[attr-defined]
        return grads[0].to(weight_VD.dtype) @ weight_VD, None, None


def wide_head(head: nn.Linear, hidden: Tensor) -> Tensor:
    """What `head` gives for `hidden` [..., hidden], in float32."""
    return cast(Tensor, WideHead.apply(hidden, head.weight, head.bias))  # type: ignore[no-untyped-call]
