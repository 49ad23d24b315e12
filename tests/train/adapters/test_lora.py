"""The adapter: PEFT reads it, its fused layer computes what LoRA is, wrong targets are named."""

from pathlib import Path

import pytest
import torch
from tests.train.conftest import tiny_llama
from torch import nn

from tunesmith.errors import InvalidRequest
from tunesmith.models.adapters import AdapterManifest, load_tensors, write_adapter
from tunesmith.settings import TrainingOptions
from tunesmith.train.adapters.lora import Adapter, LoraLinear, attach

SPEC = TrainingOptions(lora_rank=3, lora_alpha=6.0)
IDS = torch.tensor([[5, 6, 7, 8, 9]])


def manifest(adapter: Adapter) -> AdapterManifest:
    return AdapterManifest("tiny", "", "", SPEC.lora_rank, SPEC.lora_alpha, adapter.target_modules, step=1)


def randomise(adapter: Adapter) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        adapter.flat.normal_(std=0.1, generator=generator)


def test_attach_leaves_the_model_as_it_was_until_trained() -> None:
    model = tiny_llama()
    with torch.no_grad():
        before = model(IDS).logits
        adapter = attach(model, SPEC, seed=0, head=model.get_output_embeddings())
        torch.testing.assert_close(model(IDS).logits, before)
    assert len(adapter.layers) == 2 * 7


@pytest.mark.filterwarnings("ignore::FutureWarning")  # PEFT's own, about transformers
def test_adapter_loads_in_peft_with_the_same_output(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    model = tiny_llama()
    adapter = attach(model, SPEC, seed=0, head=model.get_output_embeddings())
    randomise(adapter)
    write_adapter(tmp_path / "adapter", adapter.tensors(), manifest(adapter))
    theirs = peft.PeftModel.from_pretrained(tiny_llama(), tmp_path / "adapter")
    with torch.no_grad():
        torch.testing.assert_close(model(IDS).logits, theirs(IDS).logits, rtol=1e-4, atol=1e-5)


def test_adapter_of_another_run_can_be_continued(tmp_path: Path) -> None:
    first, second = tiny_llama(), tiny_llama()
    adapters = [attach(model, SPEC, seed, model.get_output_embeddings()) for seed, model in enumerate((first, second))]
    randomise(adapters[0])
    write_adapter(tmp_path / "adapter", adapters[0].tensors(), manifest(adapters[0]))
    adapters[1].load(load_tensors(tmp_path / "adapter"))
    assert torch.equal(adapters[1].flat, adapters[0].flat)


def test_adapter_of_another_rank_is_refused_with_the_cure() -> None:
    model, other = tiny_llama(), tiny_llama()
    adapter = attach(model, SPEC, 0, model.get_output_embeddings())
    smaller = attach(other, SPEC.model_copy(update={"lora_rank": 2}), 0, other.get_output_embeddings())
    with pytest.raises(InvalidRequest, match="set the LoRA rank"):
        adapter.load(smaller.tensors())


def test_attach_names_the_layers_there_are_when_the_targets_match_none() -> None:
    with pytest.raises(
        InvalidRequest, match=r"has 'query_key_value', but the blocks of this base have no such layer\. .*q_proj"
    ):
        attach(tiny_llama(), SPEC.model_copy(update={"lora_targets": ["q_proj", "query_key_value"]}), seed=0)


@pytest.mark.parametrize(
    ("targets", "names"),
    [
        (("all-linear",), ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")),
        (("attention",), ("k_proj", "o_proj", "q_proj", "v_proj")),
        (("mlp",), ("down_proj", "gate_proj", "up_proj")),
        (("v_proj", "q_proj"), ("q_proj", "v_proj")),
    ],
)
def test_targets_choose_layers_and_never_the_output_head(targets: tuple[str, ...], names: tuple[str, ...]) -> None:
    model = tiny_llama()
    adapter = attach(model, SPEC.model_copy(update={"lora_targets": list(targets)}), 0, model.get_output_embeddings())
    assert adapter.target_modules == names
    assert not any("lm_head" in path for path in adapter.layers)


def test_the_output_head_is_no_target() -> None:
    model = tiny_llama()
    with pytest.raises(InvalidRequest, match="'lm_head'"):
        attach(model, SPEC.model_copy(update={"lora_targets": ["lm_head"]}), 0, model.get_output_embeddings())


def test_same_seed_gives_the_same_adapter_and_another_seed_another() -> None:
    flats = [attach(tiny_llama(), SPEC, seed).flat.detach() for seed in (1, 1, 2)]
    assert torch.equal(flats[0], flats[1])
    assert not torch.equal(flats[0], flats[2])


def test_adapter_off_is_the_base() -> None:
    model = tiny_llama()
    with torch.no_grad():
        before = model(IDS).logits
        adapter = attach(model, SPEC, 0, model.get_output_embeddings())
        randomise(adapter)
        assert not torch.allclose(model(IDS).logits, before)
        with adapter.off():
            torch.testing.assert_close(model(IDS).logits, before)


@pytest.mark.parametrize("bias", [True, False])
def test_fused_layer_has_the_gradient_of_lora_written_out(bias: bool) -> None:
    torch.manual_seed(0)
    base = nn.Linear(7, 5, bias=bias).double().requires_grad_(False)
    layer = LoraLinear(base, SPEC).double()
    nn.init.normal_(layer.lora_a)
    nn.init.normal_(layer.lora_b)
    x = torch.randn(2, 4, 7, dtype=torch.float64, requires_grad=True)
    direction = torch.randn(2, 4, 5, dtype=torch.float64)
    inputs = (x, layer.lora_a, layer.lora_b)
    fused = torch.autograd.grad((layer(x) * direction).sum(), inputs)
    plain = base(x) + (x @ layer.lora_a.t() @ layer.lora_b.t()) * SPEC.lora_scaling
    torch.testing.assert_close(layer(x), plain)
    for mine, theirs in zip(fused, torch.autograd.grad((plain * direction).sum(), inputs), strict=True):
        torch.testing.assert_close(mine, theirs)


class Router(nn.Linear):
    """As Llama 4 and Phi-3.5 MoE have theirs: a linear layer that returns more than its product."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        scores = super().forward(x)
        return scores, scores.argmax(-1)


def test_only_layers_that_return_their_product_inside_the_blocks_are_adapted() -> None:
    model = tiny_llama()
    model.get_submodule("model.layers.0.mlp").router = Router(64, 4)
    model.get_submodule("model").projection = nn.Linear(64, 64)
    adapter = attach(model, SPEC, seed=0, head=model.get_output_embeddings())
    assert len(adapter.layers) == 2 * 7
    with pytest.raises(InvalidRequest, match="'router', but the blocks"):
        attach(tiny_llama(), TrainingOptions(lora_targets="router"), seed=0)


def test_an_adapted_layer_shows_the_frozen_weight_whose_format_some_families_ask_for() -> None:
    layer = LoraLinear(nn.Linear(4, 3).bfloat16(), SPEC)
    assert layer.weight is layer.base.weight
    assert layer.bias is layer.base.bias
    assert {name for name, _ in layer.named_parameters()} == {"lora_a", "lora_b", "base.weight", "base.bias"}
