"""Each fused function has the value and the gradient of the formula written out; models keep what is not the same."""

from collections.abc import Callable
from typing import cast

import pytest
import torch
from tests.train.conftest import tiny_llama
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from tunesmith.settings import TrainingOptions
from tunesmith.train.adapters.lora import attach
from tunesmith.train.layers.frozen_weights import FrozenMatrix
from tunesmith.train.layers.fused_functions import GatedDown, LoraBase, RmsNorm, SharedInput, SwiGlu, apply_rotary
from tunesmith.train.layers.shared_inputs import FusedMlp
from tunesmith.train.paths.accelerate import FusedNorm, accelerate

SHARED_INPUT: Callable[..., tuple[Tensor, ...]] = SharedInput.apply


def apply(function: type[torch.autograd.Function], *values: object) -> Tensor:
    return cast(Tensor, function.apply(*values))


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def assert_same(fused: Callable[..., Tensor], plain: Callable[..., Tensor], *inputs: Tensor) -> None:
    expected, result = plain(*inputs), fused(*inputs)
    torch.testing.assert_close(result, expected)
    direction = torch.randn_like(expected)
    mine = torch.autograd.grad((result * direction).sum(), inputs)
    theirs = torch.autograd.grad((expected * direction).sum(), inputs)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_swiglu() -> None:
    assert_same(SwiGlu.apply, lambda gate, up: nn.functional.silu(gate) * up, numbers(3, 5), numbers(3, 5, seed=1))


def test_the_end_of_a_gated_mlp() -> None:
    layer = nn.Linear(5, 4, dtype=torch.float64).requires_grad_(False)
    a, b = numbers(2, 5, seed=2), numbers(4, 2, seed=3)

    def plain(gate: Tensor, up: Tensor, a: Tensor, b: Tensor) -> Tensor:
        hidden = nn.functional.silu(gate) * up
        return cast(Tensor, layer(hidden)) + 0.7 * (hidden @ a.t()) @ b.t()

    def fused(gate: Tensor, up: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return apply(GatedDown, gate, up, LoraBase(FrozenMatrix(layer), 0.7), a, b)

    assert_same(fused, plain, numbers(2, 3, 5), numbers(2, 3, 5, seed=1), a, b)


def test_rms_norm() -> None:
    weight = numbers(5, seed=1).detach()
    assert_same(
        lambda x: apply(RmsNorm, x, weight, 1e-5),
        lambda x: x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * weight,
        numbers(2, 3, 5),
    )


def test_rms_norm_with_a_weight_that_is_trained() -> None:
    x = numbers(2, 3, 5).detach()
    assert_same(
        lambda weight: apply(RmsNorm, x, weight, 1e-5),
        lambda weight: x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * weight,
        numbers(5, seed=1),
    )


def test_rotary() -> None:
    angles = numbers(1, 4, 3).detach().repeat(1, 1, 2)

    def plain(x: Tensor) -> Tensor:
        rotated = torch.cat((-x[..., 3:], x[..., :3]), -1)
        return x * angles.cos().unsqueeze(1) + rotated * angles.sin().unsqueeze(1)

    for chosen in (0, 1):
        x = numbers(1, 2, 4, 6, seed=chosen)
        assert_same(lambda one, n=chosen: apply_rotary(one, one, angles.cos(), angles.sin())[n], plain, x)


def test_layers_with_a_shared_input() -> None:
    scale = 0.7
    sizes, ranks = (4, 6), (2, 3)
    layers = [nn.Linear(5, out, bias=out == 4, dtype=torch.float64).requires_grad_(False) for out in sizes]
    matrices = [FrozenMatrix(layer) for layer in layers]
    a = [numbers(rank, 5, seed=10 + rank) for rank in ranks]
    b = [numbers(out, rank, seed=20 + rank) for out, rank in zip(sizes, ranks, strict=True)]

    def fused(x: Tensor, *_: Tensor) -> Tensor:
        stacked = torch.cat([one.detach() for one in a])
        return torch.cat(SHARED_INPUT(x, scale, matrices, stacked, a[0], b[0], a[1], b[1]), -1)

    def plain(x: Tensor, *_: Tensor) -> Tensor:
        return torch.cat([layers[i](x) + scale * (x @ a[i].t()) @ b[i].t() for i in (0, 1)], -1)

    assert_same(fused, plain, numbers(2, 3, 5), *a, *b)


def test_accelerate_changes_the_modules_and_not_the_output() -> None:
    model = tiny_llama()
    attach(model, TrainingOptions(lora_rank=3), 0, model.get_output_embeddings())
    ids = torch.tensor([[1, 2, 3, 4, 5]])
    with torch.no_grad():
        before = model(ids).logits
        accelerate(model)
        torch.testing.assert_close(model(ids).logits, before, rtol=1e-4, atol=1e-4)
    layer = model.model.layers[0]
    assert isinstance(layer.mlp, FusedMlp)
    assert isinstance(layer.input_layernorm, FusedNorm)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_norms_of_a_16_bit_base_are_fused(dtype: torch.dtype) -> None:
    model = tiny_llama().to(dtype)
    accelerate(model)
    norms = [module for module in model.modules() if type(module).__name__.endswith("Norm")]
    assert len(norms) == 2 * model.config.num_hidden_layers + 1
    assert all(isinstance(norm, FusedNorm) for norm in norms)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_norm_in_16_bits_and_its_gradient_are_as_near_to_float64_as_transformers(dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(0)
    x, grad = (3 * torch.randn(64, 96, generator=draw, dtype=torch.float64) for _ in range(2))
    own = LlamaRMSNorm(96).to(dtype)
    own.weight.data += torch.randn(96, generator=draw).to(dtype)
    x, grad = x.to(dtype), grad.to(dtype)
    weight, epsilon = own.weight.detach().double(), own.variance_epsilon
    exact = through(
        lambda x, w: x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon) * w, x.double(), weight, grad
    )
    theirs = through(lambda x, _: own(x), x, own.weight, grad)
    ours = through(lambda x, weight: apply(RmsNorm, x, weight, epsilon), x, own.weight, grad)
    for right, one, other in zip(exact, theirs, ours, strict=True):
        assert 0 < error(other, right) <= 1.05 * error(one, right)


def through(norm: Callable[[Tensor, Tensor], Tensor], x: Tensor, weight: Tensor, grad: Tensor) -> list[Tensor]:
    """The output, and the gradients of the input and of the weight."""
    x, weight = x.clone().requires_grad_(), weight.requires_grad_()
    y = norm(x, weight)
    return [y.detach(), *torch.autograd.grad(y, (x, weight), grad.to(y.dtype))]


def error(numbers: Tensor, right: Tensor) -> float:
    return float((numbers.double() - right).abs().mean())


class OtherRMSNorm(nn.Module):
    """Gemma's: the weight is stored minus one."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4))
        self.eps = 1e-6

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * (1 + self.weight)


def test_accelerate_leaves_a_norm_of_another_kind_alone() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        model = nn.Sequential(OtherRMSNorm()).to(dtype)
        accelerate(model)
        assert isinstance(model[0], OtherRMSNorm)
