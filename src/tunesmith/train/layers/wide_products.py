"""Products of 16-bit matrices whose results are kept in float32.

Logits are what this is for: bfloat16 rounds one of 20 to an eighth, and a softmax in float32 gives none of that back.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from tunesmith.system.pages import is_of_file, release_pages

BLOCK_OUTPUTS = 1 << 14  # rows of a matrix that are converted at once, where no product does it by itself


def is_narrow(tensor: Tensor) -> bool:
    """Whether the values are in 16 bits."""
    return tensor.is_floating_point() and tensor.dtype.itemsize < torch.float32.itemsize


def wide_product(x_NI: Tensor, weight_OI: Tensor, bias: Tensor | None = None, *, release: bool = False) -> Tensor:
    """The product x W^T + bias [N, out], in float32 at least.

    `release`: of a matrix that is mapped from a file, the pages that were read are given back.
    """
    if not is_narrow(weight_OI):
        weight = weight_OI.t()
        return torch.mm(x_NI, weight) if bias is None else torch.addmm(bias, x_NI, weight)
    if x_NI.device.type == "cuda":  # its sums are in float32 anyway
        y = torch.mm(x_NI, weight_OI.t(), out_dtype=torch.float32)
    else:
        y = _in_blocks(x_NI.float(), weight_OI, release=release and is_of_file(weight_OI))
    return y if bias is None else y.add_(bias)


def _in_blocks(wide_NI: Tensor, weight_OI: Tensor, *, release: bool) -> Tensor:
    """As a float32 copy of the weight would give it, of which there is never more than a block."""
    y_NO, first = wide_NI.new_empty(len(wide_NI), len(weight_OI)), 0
    for part in weight_OI.split(BLOCK_OUTPUTS):
        y_NO[:, first : first + len(part)] = wide_NI @ part.float().t()
        first += len(part)
        if release:
            release_pages(part)
    return y_NO


class WideHead(torch.autograd.Function):
    """An output layer with a frozen 16-bit matrix and logits in float32.

    For a check before the base is repacked: the whole matrix is not in memory beside what is made of the base.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, hidden: Tensor, weight_VD: Tensor, bias: Tensor | None) -> Tensor:
        """See the class."""
        ctx.save_for_backward(weight_VD)
        return wide_product(hidden.flatten(0, -2), weight_VD, bias, release=True).view(*hidden.shape[:-1], -1)

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor, None, None]:
        """See the class."""
        (weight_VD,) = cast(tuple[Tensor], ctx.saved_tensors)  # type: ignore[attr-defined]
        return grads[0].to(weight_VD.dtype) @ weight_VD, None, None


def wide_head(head: nn.Linear, hidden: Tensor) -> Tensor:
    """What `head` gives for `hidden` [..., hidden], in float32."""
    return cast(Tensor, WideHead.apply(hidden, head.weight, head.bias))  # type: ignore[no-untyped-call]
