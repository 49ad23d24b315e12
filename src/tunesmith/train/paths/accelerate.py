"""Replaces a model's own modules by fused functions where the results agree.

A family that computes its norm, MLP or rotary embedding differently simply keeps its own: nothing is assumed from a
name; the two are run on random numbers and compared.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from tunesmith.families.layout import ATTENTION_INPUTS, GATED_MLP
from tunesmith.train.adapters.lora import LoraLinear
from tunesmith.train.layers.fused_functions import RmsNorm, apply_rotary
from tunesmith.train.layers.shared_inputs import FusedMlp, GatedMlp, GroupMember, InputGroup

TOLERANCE = 1e-4  # of fp32 results on normal random numbers


def accelerate(model: nn.Module) -> None:
    """Replaces modules of `model` in place, once its adapter is attached.

    One module of each class and size is compared.
    """
    compared = _Compared()
    for path, module in [*model.named_modules()]:
        fused = _fused(module)
        if fused is not None:
            if compared.agree(module, *fused):
                parent, _, name = path.rpartition(".")
                setattr(model.get_submodule(parent), name, fused[0])
        elif _have(module, ATTENTION_INPUTS, nn.Linear):
            _fuse_rotary(module)
        elif _have(module, ATTENTION_INPUTS, LoraLinear):
            group = InputGroup([cast(LoraLinear, getattr(module, name)) for name in ATTENTION_INPUTS])
            for index, name in enumerate(ATTENTION_INPUTS):
                setattr(module, name, GroupMember(group, index))
            _fuse_rotary(module)


def _fused(module: nn.Module) -> tuple[nn.Module, Tensor] | None:
    """What might take the place of `module`, and a weight whose last dimension is that of its input."""
    if _might_be_norm(module):
        weight = cast(nn.Parameter, module.weight)
        return FusedNorm(weight, _epsilon(module)), weight
    if _is_gated_mlp(module, LoraLinear):
        return FusedMlp(module), cast(LoraLinear, module.gate_proj).base.weight
    if _is_gated_mlp(module, nn.Linear):
        return GatedMlp(module), cast(nn.Linear, module.gate_proj).weight
    return None


class FusedNorm(nn.Module):
    """An RMSNorm with the weight of the model's own."""

    def __init__(self, weight: nn.Parameter, epsilon: float) -> None:
        super().__init__()
        self.weight = weight
        self.variance_epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """x / rms(x) * weight, over the last dimension."""
        return cast(Tensor, RmsNorm.apply(x, self.weight, self.variance_epsilon))  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class _Compared:
    """Results of comparisons, by class and size."""

    known: dict[tuple[type, tuple[int, ...]], bool] = field(default_factory=dict)

    def agree(self, own: nn.Module, fused: nn.Module, weight: Tensor) -> bool:
        """Whether the two give the same result."""
        kind = (type(own), tuple(weight.shape))
        if kind not in self.known:
            self.known[kind] = _same(own, fused, weight)
        return self.known[kind]


def _might_be_norm(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return type(module).__name__.endswith("RMSNorm") and isinstance(weight, Tensor) and weight.dim() == 1


def _epsilon(module: nn.Module) -> float:
    return float(getattr(module, "variance_epsilon", getattr(module, "eps", 0.0)) or 0.0)


def _is_gated_mlp(module: nn.Module, kind: type[nn.Module]) -> bool:
    return _have(module, GATED_MLP, kind) and not [*module.parameters(recurse=False)]


def _have(module: nn.Module, names: Sequence[str], kind: type[nn.Module]) -> bool:
    return all(isinstance(getattr(module, name, None), kind) for name in names)


def _same(own: Callable[[Tensor], Tensor], fused: Callable[[Tensor], Tensor], like: Tensor) -> bool:
    x = torch.randn(3, like.shape[-1], generator=torch.Generator().manual_seed(0)).to(like)
    with torch.no_grad():
        expected, result = own(x), fused(x)
    return expected.dtype == result.dtype and torch.allclose(expected, result, rtol=TOLERANCE, atol=TOLERANCE)


def _fuse_rotary(attention: nn.Module) -> None:
    """transformers' attention calls a function of its module by name: in this process that name becomes ours."""
    home = vars(sys.modules[type(attention).__module__])
    own = home.get("apply_rotary_pos_emb")
    if own is None or own is apply_rotary:
        return
    draw = torch.Generator().manual_seed(0)
    q, k = torch.randn(1, 2, 3, 8, generator=draw), torch.randn(1, 1, 3, 8, generator=draw)
    angles = torch.randn(1, 3, 4, generator=draw).repeat(1, 1, 2)
    try:
        expected = own(q, k, angles.cos(), angles.sin())
    except (TypeError, ValueError, RuntimeError):  # a rotary embedding of another kind
        return
    result = apply_rotary(q, k, angles.cos(), angles.sin())
    if all(torch.allclose(one, other, atol=TOLERANCE) for one, other in zip(expected, result, strict=True)):
        home["apply_rotary_pos_emb"] = apply_rotary
