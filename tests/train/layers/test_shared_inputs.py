"""Layers that stand in a group hear what their model is told, and drop inputs in training only."""

from typing import cast

import torch
from tests.train.conftest import tiny_llama
from torch import Tensor, nn

from tunesmith.settings import TrainingOptions
from tunesmith.train.adapters.lora import LoraLinear, attach
from tunesmith.train.layers.shared_inputs import FusedMlp, GroupMember, InputGroup

HIDDEN, INNER = 6, 10


def lora_layer(inputs: int, outputs: int) -> LoraLinear:
    layer = LoraLinear(nn.Linear(inputs, outputs).requires_grad_(False), TrainingOptions(lora_rank=2, lora_dropout=0.5))
    with torch.no_grad():
        for matrix in (layer.lora_a, layer.lora_b):
            matrix.normal_()
    return layer.eval()


class GatedMlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = lora_layer(HIDDEN, INNER), lora_layer(HIDDEN, INNER)
        self.down_proj = lora_layer(INNER, HIDDEN)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x)))


def test_every_layer_of_a_group_drops_inputs_in_training_and_none_after_it() -> None:
    torch.manual_seed(0)
    plain = GatedMlp()
    mlp, member = FusedMlp(plain), GroupMember(InputGroup([lora_layer(HIDDEN, 4)]), 0)
    layers = [plain.gate_proj, plain.up_proj, plain.down_proj, *member.group.layers]
    x = torch.randn(4, HIDDEN)
    with torch.no_grad():
        for module in (mlp, member):
            module.train()
            assert not torch.equal(module(x), module(x))
        assert all(layer.training for layer in layers)
        for module in (mlp, member):
            module.eval()
            assert torch.equal(module(x), module(x))
        torch.testing.assert_close(mlp(x), plain(x))


def test_a_new_adapter_drops_nothing_until_its_model_is_in_training() -> None:
    model = tiny_llama().eval()
    adapter = attach(model, TrainingOptions(lora_rank=2, lora_dropout=0.5), 0, model.get_output_embeddings())
    assert not any(layer.training for layer in adapter.layers.values())


def test_what_a_layer_returns_may_be_changed_in_place() -> None:
    """OLMo clips its queries, keys and values so, and Llama 4 adds up its experts."""
    torch.manual_seed(0)
    layers = [lora_layer(HIDDEN, 4), lora_layer(HIDDEN, 4)]
    x = torch.randn(1, 3, HIDDEN, requires_grad=True)

    def gradient(outputs: list[Tensor], *, in_place: bool) -> Tensor:
        clipped = [y.clamp_(-0.5, 0.5) if in_place else y.clamp(-0.5, 0.5) for y in outputs]
        return torch.autograd.grad(sum(y.square().sum() for y in clipped), x)[0]  # type: ignore[arg-type]

    expected = gradient([layer(x) for layer in layers], in_place=False)
    torch.testing.assert_close(gradient([layer(x) for layer in layers], in_place=True), expected)
    group = InputGroup(layers)
    torch.testing.assert_close(gradient([group.output(index, x) for index in range(2)], in_place=True), expected)
