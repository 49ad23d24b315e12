"""Families with windows, soft-capped scores and sinks: the tree's gradient is that of every row alone (float64).

The rows alone go through transformers' own layers and masks. Only what these compute in float32 at any precision of
the model is put in float64: norms, and the softmax of the scores.
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask

from tunesmith.models.adapters import AdapterManifest, write_adapter
from tunesmith.train.adapters.lora import Adapter
from tunesmith.train.core.losses import supervised_loss
from tunesmith.train.core.packing import TokenRow, pack
from tunesmith.train.paths.scoring import TreeScorer

from .test_families import CHANGES, build

EXACT = "tests_exact"


def exact_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **options: object,
) -> tuple[Tensor, None]:
    """transformers' eager attention in the precision of the model."""
    times = query.shape[1] // key.shape[1]
    scores = query @ key.repeat_interleave(times, 1).mT * scaling
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores + attention_mask
    if s_aux is not None:
        scores = torch.cat([scores, s_aux.view(1, -1, 1, 1).expand(*scores.shape[:-1], 1)], -1)
    weights = torch.softmax(scores, -1)[..., : key.shape[2]]
    return (weights @ value.repeat_interleave(times, 1)).transpose(1, 2), None


AttentionInterface.register(EXACT, exact_attention)
AttentionMaskInterface.register(EXACT, eager_mask)


def build_exact(name: str) -> tuple[PreTrainedModel, Adapter]:
    model, adapter = build(name, **CHANGES[name])
    model.double()
    model.set_experts_implementation("eager")  # the default's grouped product takes no float64
    for path, module in [*model.named_modules()]:
        if type(module).__name__.endswith("RMSNorm"):
            norm = nn.RMSNorm(len(module.weight), getattr(module, "variance_epsilon", None) or module.eps)
            norm.weight.data = module.weight.data + float(name.startswith("Gemma"))
            parent, _, own = path.rpartition(".")
            setattr(model.get_submodule(parent), own, norm.requires_grad_(False))
    return model, adapter


def rows_of_three_depths() -> list[TokenRow]:
    """Longer than the window of ten; prefixes of 14, 25 and 36 tokens are shared, with forks before and after it."""
    draw = torch.Generator().manual_seed(4)
    trunk = torch.randint(3, 61, (36,), generator=draw).tolist()
    rows = [(*trunk, 5, 6, 7), (*trunk, 8, 9), (*trunk[:25], *range(20, 32)), (*trunk[:14], *range(3, 33)), (3, 4, 5)]
    return [TokenRow(ids, (0.0, 1.0, *(0.5 + i % 2 for i in range(len(ids) - 2)))) for ids in rows]


def gradient_of_rows_alone(model: PreTrainedModel, adapter: Adapter, rows: list[TokenRow]) -> Tensor:
    adapter.grad.zero_()
    model.set_attn_implementation(EXACT)
    total = sum(sum(row.weights[1:]) for row in rows)
    for row in rows:
        logits = model(input_ids=torch.tensor([row.ids]), use_cache=False).logits[0, :-1]
        losses = nn.functional.cross_entropy(logits, torch.tensor(row.ids[1:]), reduction="none")
        ((losses * torch.tensor(row.weights[1:], dtype=torch.float64)).sum() / total).backward()
    return adapter.grad.clone()


@pytest.mark.parametrize("name", ["Gemma2", "Gemma3", "GptOss"])
def test_tree_gradient_equals_that_of_each_row_alone(name: str) -> None:
    rows = rows_of_three_depths()
    assert len(pack(rows).nodes) == 8
    model, adapter = build_exact(name)
    expected = gradient_of_rows_alone(model, adapter, rows)
    adapter.grad.zero_()
    scores = TreeScorer(model).score(rows)
    supervised_loss(scores.logprobs, scores.weights, float(scores.weights.sum())).backward()
    torch.testing.assert_close(adapter.grad, expected, rtol=1e-6, atol=1e-10)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # PEFT's own, about transformers
def test_adapter_of_a_base_with_experts_is_on_its_attention_and_loads_in_peft(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    model, adapter = build("GptOss", **CHANGES["GptOss"])
    assert adapter.target_modules == ("k_proj", "o_proj", "q_proj", "v_proj")
    written = AdapterManifest("tiny", "", "", 3, 32, adapter.target_modules, step=1)
    write_adapter(tmp_path / "adapter", adapter.tensors(), written)
    other, unused = build("GptOss", **CHANGES["GptOss"])
    for path, layer in unused.layers.items():  # as it was before
        parent, _, own = path.rpartition(".")
        setattr(other.get_submodule(parent), own, layer.base)
    theirs = peft.PeftModel.from_pretrained(other, tmp_path / "adapter")
    ids = torch.arange(3, 30).unsqueeze(0)
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, theirs(ids).logits, rtol=1e-4, atol=1e-5)
