"""Puts the fused functions in the place of a model's own modules, each only where both give the same result.

A family that builds its norm, MLP or rotary embedding otherwise simply keeps its own: nothing is assumed from a name,
the two are run on random numbers and compared.
"""

import sys
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from tunesmith.families.layout import ATTENTION_INPUTS, GATED_MLP
from tunesmith.train.adapters.lora import LoraLinear
from tunesmith.train.layers.fused_functions import RmsNorm, apply_rotary
from tunesmith.train.layers.shared_inputs import FusedMlp, GroupMember, InputGroup, PlainMlp

TOLERANCE = 1e-4  # of fp32 results on normal random numbers


def accelerate(model: nn.Module) -> None:
    """In place; call it when what is trained is prepared. One module of each class and size is compared."""
    known: dict[tuple[type, tuple[int, ...]], bool] = {}
    for path, module in [*model.named_modules()]:
        if _might_be_norm(module):
            weight = cast(nn.Parameter, module.weight)
            fused: nn.Module = FusedNorm(weight, _epsilon(module))
            if _agrees(module, fused, weight, known):
                _replace(model, path, fused)
        elif _is_gated_mlp(module, LoraLinear):
            fused = FusedMlp(module)
            if _agrees(module, fused, cast(LoraLinear, module.gate_proj).base.weight, known):
                _replace(model, path, fused)
        elif _is_gated_mlp(module, nn.Linear):
            fused = PlainMlp(module)
            if _agrees(module, fused, cast(nn.Linear, module.gate_proj).weight, known):
                _replace(model, path, fused)
        elif _have(module, ATTENTION_INPUTS, nn.Linear):
            _fuse_rotary(module)
        elif _have(module, ATTENTION_INPUTS, LoraLinear):
            group = InputGroup([cast(LoraLinear, getattr(module, name)) for name in ATTENTION_INPUTS])
            for index, name in enumerate(ATTENTION_INPUTS):
                setattr(module, name, GroupMember(group, index))
            _fuse_rotary(module)


class FusedNorm(nn.Module):
    def __init__(self, weight: nn.Parameter, epsilon: float) -> None:
        super().__init__()
        self.weight = weight
        self.variance_epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, RmsNorm.apply(x, self.weight, self.variance_epsilon))  # type: ignore[no-untyped-call]


def _might_be_norm(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return type(module).__name__.endswith("RMSNorm") and isinstance(weight, Tensor) and weight.dim() == 1


def _epsilon(module: nn.Module) -> float:
    return float(getattr(module, "variance_epsilon", getattr(module, "eps", 0.0)) or 0.0)


def _is_gated_mlp(module: nn.Module, kind: type[nn.Module]) -> bool:
    return _have(module, GATED_MLP, kind) and not [*module.parameters(recurse=False)]


def _have(module: nn.Module, names: Sequence[str], kind: type[nn.Module]) -> bool:
    return all(isinstance(getattr(module, name, None), kind) for name in names)


def _agrees(
    plain: nn.Module, fused: nn.Module, weight: Tensor, known: dict[tuple[type, tuple[int, ...]], bool]
) -> bool:
    kind = (type(plain), tuple(weight.shape))
    if kind not in known:
        known[kind] = _same(plain, fused, weight)
    return known[kind]


def _same(plain: Callable[[Tensor], Tensor], fused: Callable[[Tensor], Tensor], like: Tensor) -> bool:
    x = torch.randn(3, like.shape[-1], generator=torch.Generator().manual_seed(0)).to(like)
    with torch.no_grad():
        expected, result = plain(x), fused(x)
    return expected.dtype == result.dtype and torch.allclose(expected, result, rtol=TOLERANCE, atol=TOLERANCE)


def _fuse_rotary(attention: nn.Module) -> None:
    """transformers' attention calls a function of its own module by name; in this process that name becomes ours."""
    home = vars(sys.modules[type(attention).__module__])
    plain = home.get("apply_rotary_pos_emb")
    if plain is None or plain is apply_rotary:
        return
    draw = torch.Generator().manual_seed(0)
    q, k = torch.randn(1, 2, 3, 8, generator=draw), torch.randn(1, 1, 3, 8, generator=draw)
    angles = torch.randn(1, 3, 4, generator=draw).repeat(1, 1, 2)
    try:
        expected = plain(q, k, angles.cos(), angles.sin())
    except (TypeError, ValueError, RuntimeError):  # a rotary embedding of another kind
        return
    result = apply_rotary(q, k, angles.cos(), angles.sin())
    if all(torch.allclose(one, other, atol=TOLERANCE) for one, other in zip(expected, result, strict=True)):
        home["apply_rotary_pos_emb"] = apply_rotary


def _replace(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)
