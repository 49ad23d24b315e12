"""The frozen weight of a linear layer, laid out for training's two products.

oneDNN's blocked layouts are up to twice as fast as row-major matrices at the 50 to 200 tokens of a small step, and a
tenth faster at large ones; a copy for each direction is made, and the row-major original is freed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from tunesmith.system.pages import evict_pages, release_pages
from tunesmith.train.layers.wide_products import wide_product

_TYPICAL_ROWS = 256  # the layout is chosen for this many tokens; the speed was the same for 16 to 768
Reading: TypeAlias = Callable[[Tensor], Tensor]
_PACKS = hasattr(torch.ops.mkldnn, "_reorder_linear_weight")  # absent where torch was built without oneDNN


class FrozenHead(Protocol):
    """An output layer that gets no gradient, as the losses use it."""

    @property
    def outputs(self) -> int:
        """The size of the vocabulary."""
        ...

    def logits(self, x_NI: Tensor) -> Tensor:
        """The product x W^T + bias [N, out], in float32 at least."""
        ...

    def grad_input(self, grad_NO: Tensor) -> Tensor:
        """The gradient g W [N, in] with respect to x, where g is that of the logits."""
        ...


class FrozenMatrix:
    """The weight W [out, in] and bias of `layer`, which get no gradient."""

    def __init__(self, layer: nn.Linear) -> None:
        self.layer = layer
        self._forward: Tensor | None = None
        self._backward: Tensor | None = None
        self.reading: Reading | None = None  # see `wide_modules.widened`

    @property
    def outputs(self) -> int:
        """How many values the layer's output has."""
        return self.layer.out_features

    def pack(self, release: bool = True) -> None:
        """Makes the products use blocked layouts, where there are any for W.

        `release`: the layer loses its weight, which nothing else may need.
        """
        weight = self.layer.weight.detach()
        kinds = (torch.float32, torch.float16, torch.bfloat16)
        if self._forward is not None or not _PACKS or weight.dtype not in kinds or weight.device.type != "cpu":
            return
        wide = weight.float()  # exact
        self._forward, self._backward = _blocked(wide), _blocked(wide.t())
        if release:
            release_pages(weight)  # the mapping of a file stays as long as any tensor of it
            self.layer.weight.data = torch.empty(0)

    def product(self, x_NI: Tensor) -> Tensor:
        """The product x W^T + bias [N, out]."""
        bias = self.layer.bias
        if self._forward is not None:
            return _blocked_product(x_NI, self._forward, bias)
        with self._as(x_NI.dtype) as weight:
            return torch.mm(x_NI, weight.t()) if bias is None else torch.addmm(bias, x_NI, weight.t())

    def logits(self, x_NI: Tensor) -> Tensor:
        """The product in float32 at least, also of a matrix in 16 bits."""
        return (
            self.product(x_NI) if self._forward is not None else wide_product(x_NI, self.layer.weight, self.layer.bias)
        )

    def grad_input(self, grad_NO: Tensor) -> Tensor:
        """The gradient g W [N, in] with respect to x, where g is that of the product."""
        if self._backward is not None:
            return _blocked_product(grad_NO, self._backward, None)
        with self._as(grad_NO.dtype) as weight:
            return torch.mm(grad_NO, weight)

    @contextmanager
    def _as(self, dtype: torch.dtype) -> Iterator[Tensor]:
        """The weight in this format, or as it is read for a while, which does not keep its file in memory."""
        weight = self.layer.weight.detach()
        if self.reading is None:
            yield weight.to(dtype)
            return
        yield self.reading(weight)
        if weight.device.type == "cpu":
            evict_pages(weight)

    def __call__(self, x: Tensor) -> Tensor:
        """The layer as autograd sees it: [..., in] -> [..., out].

        Unless it is packed it may be of any kind (quantized).
        """
        if self._forward is None and self.reading is None:
            return cast(Tensor, self.layer(x))
        return cast(Tensor, _Frozen.apply(x, self))  # type: ignore[no-untyped-call]


class _Frozen(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, matrix: FrozenMatrix) -> Tensor:
        """See the class."""
        ctx.matrix, ctx.shape = matrix, x.shape  # type: ignore[attr-defined]
        return matrix.product(x.reshape(-1, x.shape[-1])).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor, None]:
        """See the class."""
        matrix = cast(FrozenMatrix, ctx.matrix)  # type: ignore[attr-defined]
        return matrix.grad_input(grads[0].reshape(-1, grads[0].shape[-1])).view(ctx.shape), None  # type: ignore[attr-defined]


def _blocked(weight_OI: Tensor) -> Tensor:
    return cast(Tensor, torch.ops.mkldnn._reorder_linear_weight(weight_OI, _TYPICAL_ROWS))


def _blocked_product(x_NI: Tensor, blocked: Tensor, bias: Tensor | None) -> Tensor:
    return cast(Tensor, torch.ops.mkldnn._linear_pointwise(x_NI, blocked, bias, "none", [], ""))
