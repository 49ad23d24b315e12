"""A packed frozen matrix multiplies as the layer it was made of, forwards and backwards."""

import pytest
import torch
from torch import Tensor, nn

from tunesmith.train.layers.frozen_weights import FrozenMatrix


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("tokens", [1, 7, 300])
def test_a_packed_matrix_has_the_layers_value_and_gradient(tokens: int, bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(48, 80, bias=bias).requires_grad_(False)
    x = torch.randn(2, tokens, 48, requires_grad=True)
    expected = layer(x)
    direction = torch.randn_like(expected)
    (theirs,) = torch.autograd.grad((expected * direction).sum(), x)
    matrix = FrozenMatrix(layer)
    matrix.pack()
    result = matrix(x)
    (mine,) = torch.autograd.grad((result * direction).sum(), x)
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(mine, theirs)


def test_strided_gradients_are_multiplied_right() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(48, 80).requires_grad_(False)
    grad: Tensor = torch.randn(80, 9).t()
    expected = grad @ layer.weight
    matrix = FrozenMatrix(layer)
    matrix.pack()
    torch.testing.assert_close(matrix.grad_input(grad), expected)
    torch.testing.assert_close(matrix.grad_input(torch.cat([grad, grad], 1)[:, :80]), expected)


def test_packing_lets_the_original_go_unless_something_else_needs_it() -> None:
    for release, size in ((True, 0), (False, 12)):
        layer = nn.Linear(3, 4, bias=False).requires_grad_(False)
        FrozenMatrix(layer).pack(release)
        assert layer.weight.numel() == size


def test_other_number_types_stay_as_they_are() -> None:
    layer = nn.Linear(3, 4, dtype=torch.float64).requires_grad_(False)
    matrix = FrozenMatrix(layer)
    matrix.pack()
    x = torch.randn(2, 3, dtype=torch.float64)
    assert torch.equal(matrix(x), layer(x))
