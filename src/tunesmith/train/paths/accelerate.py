"""Replaces a model's own modules by fused functions where the results agree.

A family that computes its norm, MLP or rotary embedding differently simply keeps its own: nothing is assumed from a
name; the two are run on random numbers and compared. A rotary function is replaced in its module, and so for the whole
process: ours computes the shapes that it was compared for and leaves all others to the function it replaced
(a family may rotate only a part of each head). `restore` takes it back.
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

ROTARY = "apply_rotary_pos_emb"  # the name of the function in transformers' modules
TOLERANCE = 1e-4  # of fp32 results on normal random numbers
ROUNDINGS = 2  # steps of a 16-bit number by which two right results differ; a wrong formula is off by tens of them


def accelerate(model: nn.Module) -> None:
    """Replaces modules of `model` in place, once its adapter is attached.

    One module of each kind is compared (`_Compared`).
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
    """Results of comparisons, by all that makes two modules compute the same but for their weights."""

    known: dict[tuple[object, ...], bool] = field(default_factory=dict)

    def agree(self, own: nn.Module, fused: nn.Module, weight: Tensor) -> bool:
        """Whether the two give the same result."""
        kind = (type(own), *weight.shape, *_traits(own))
        if kind not in self.known:
            self.known[kind] = _same(own, fused, weight)
        return self.known[kind]


def _traits(module: nn.Module) -> list[tuple[str, object]]:
    """What a module was made with: numbers, switches, and the classes of its parts."""
    own = {name: value for name, value in vars(module).items() if isinstance(value, int | float | str | None)}
    parts = {name: type(part) for name, part in module.named_children()}
    return sorted((own | parts).items() - {("layer_idx", own.get("layer_idx"))}, key=lambda pair: pair[0])


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
    tolerance = max(TOLERANCE, ROUNDINGS * torch.finfo(expected.dtype).eps)
    return expected.dtype == result.dtype and torch.allclose(expected, result, rtol=tolerance, atol=tolerance)


class _FusedRotary:
    """Takes the place of transformers' `apply_rotary_pos_emb` where whole heads are rotated."""

    def __init__(self, own: Callable[..., tuple[Tensor, Tensor]]) -> None:
        self.own = own

    def __call__(self, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> tuple[Tensor, Tensor]:
        """See `apply_rotary`."""
        if cos.shape[-1] == q.shape[-1] == k.shape[-1] and cos.dim() == sin.dim() == q.dim() - 1:
            return apply_rotary(q, k, cos, sin, unsqueeze_dim)
        return self.own(q, k, cos, sin, unsqueeze_dim)


_replaced: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {}  # by the name of the module that has it


def restore() -> None:
    """Gives the modules of transformers their own rotary functions back."""
    for name, own in _replaced.items():
        vars(sys.modules[name])[ROTARY] = own
    _replaced.clear()


def _fuse_rotary(attention: nn.Module) -> None:
    """transformers' attention calls a function of its module by name: in this process that name becomes ours."""
    name = type(attention).__module__
    own = vars(sys.modules[name]).get(ROTARY)
    if own is None or isinstance(own, _FusedRotary):
        return
    fused = _FusedRotary(own)
    if _same_rotation(own, fused):
        _replaced[name] = own
        vars(sys.modules[name])[ROTARY] = fused


def _same_rotation(own: Callable[..., tuple[Tensor, Tensor]], fused: _FusedRotary) -> bool:
    draw = torch.Generator().manual_seed(0)
    q, k = torch.randn(1, 2, 3, 8, generator=draw), torch.randn(1, 1, 3, 8, generator=draw)
    angles = torch.randn(1, 3, 4, generator=draw).repeat(1, 1, 2)
    try:
        pairs = zip(own(q, k, angles.cos(), angles.sin()), fused(q, k, angles.cos(), angles.sin()), strict=True)
        return all(torch.allclose(one, other, atol=TOLERANCE) for one, other in pairs)
    except (TypeError, ValueError, RuntimeError):  # a rotary embedding of another kind
        return False
