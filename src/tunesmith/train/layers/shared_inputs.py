"""LoRA layers with the same input, computed together and called one by one."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from tunesmith.families.layout import GATED_MLP
from tunesmith.train.adapters.lora import LoraLinear
from tunesmith.train.layers.fused_functions import GatedDown, LoraBase, SharedInput, SwiGlu


class InputGroup:
    """LoRA layers that are called with the same input: the first call computes all."""

    def __init__(self, layers: Sequence[LoraLinear]) -> None:
        self.layers = layers
        self.matrices = [layer.matrix for layer in layers]
        self._input: Tensor | None = None
        self._pending: dict[int, Tensor] = {}

    def output(self, index: int, x: Tensor) -> Tensor:
        """The output of the layer of that index."""
        layer = self.layers[index]
        if not layer.is_plain_lora:
            return cast(Tensor, layer(x))
        if self._input is not x or index not in self._pending:
            self._input, self._pending = x, dict(enumerate(self._all(x)))
        result = self._pending.pop(index)
        if not self._pending:
            self._input = None
        return result

    def _all(self, x: Tensor) -> Sequence[Tensor]:
        adapters = [matrix.to(x.dtype) for layer in self.layers for matrix in (layer.lora_a, layer.lora_b)]
        stacked = torch.cat([matrix.detach() for matrix in adapters[0::2]])
        flat, scale = x.reshape(-1, x.shape[-1]), self.layers[0].scale
        outputs = SharedInput.apply(flat, scale, self.matrices, stacked, *adapters)  # type: ignore[no-untyped-call]
        # Views are made here: those that a function of several outputs returns must not be changed in place (OLMo).
        return [y.view(*x.shape[:-1], -1) for y in cast(Sequence[Tensor], outputs)]


class GroupMember(nn.Module):
    """Takes the place of a layer of the group."""

    def __init__(self, group: InputGroup, index: int) -> None:
        super().__init__()
        self.group, self.index = group, index
        self.layer = group.layers[index]  # a child module, so that train() and eval() reach its dropout

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.group.output(self.index, x)


class FusedMlp(nn.Module):
    """A gated MLP with LoRA: down(silu(gate(x)) * up(x))."""

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = (cast(LoraLinear, getattr(original, name)) for name in GATED_MLP)
        self.group = InputGroup([self.gate_proj, self.up_proj])

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        gate, up = self.group.output(0, x), self.group.output(1, x)
        down = self.down_proj
        if not down.is_plain_lora:
            return cast(Tensor, down(SwiGlu.apply(gate, up)))  # type: ignore[no-untyped-call]
        a, b = down.lora_a.to(x.dtype), down.lora_b.to(x.dtype)
        return cast(Tensor, GatedDown.apply(gate, up, LoraBase(down.matrix, down.scale), a, b))  # type: ignore[no-untyped-call]


class GatedMlp(nn.Module):
    """A gated MLP without LoRA, whose layers may be trained themselves."""

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = (cast(nn.Linear, getattr(original, name)) for name in GATED_MLP)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        hidden = SwiGlu.apply(self.gate_proj(x), self.up_proj(x))  # type: ignore[no-untyped-call]
        return cast(Tensor, self.down_proj(hidden))
