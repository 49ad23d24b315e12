"""Training on the token tree gives the gradient of every row trained alone (float64)."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.train.conftest import VOCABULARY, tiny_llama
from torch import Tensor, nn
from transformers import LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from tunesmith.settings import TrainingOptions
from tunesmith.train.adapters.lora import Adapter, attach
from tunesmith.train.core.examples import Batch, Example
from tunesmith.train.core.packing import TokenRow
from tunesmith.train.objective import Preference, Supervised
from tunesmith.train.paths.padded import PaddedScorer
from tunesmith.train.paths.scoring import TreeScorer


def tuned_llama() -> tuple[LlamaForCausalLM, Adapter]:
    """In float64 throughout (transformers' norm would compute in float32), with an adapter that does something."""
    model = tiny_llama()
    for path, module in [*model.named_modules()]:
        if isinstance(module, LlamaRMSNorm):
            norm = nn.RMSNorm(module.weight.shape[0], module.variance_epsilon)
            norm.weight.data = module.weight.data
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, norm)
    model.double()
    adapter = attach(model, TrainingOptions(lora_rank=3, lora_alpha=6.0), seed=1, head=model.get_output_embeddings())
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for layer in adapter.layers.values():
            layer.lora_b.normal_(std=0.2, generator=generator)
    return model, adapter


MODEL, ADAPTER = tuned_llama()


@st.composite
def token_trees(draw: st.DrawFn) -> list[TokenRow]:
    """Rows that fork off one another at random places, with random weights."""
    tokens = st.integers(0, VOCABULARY - 1)
    rows: list[tuple[int, ...]] = []
    for _ in range(draw(st.integers(1, 5))):
        before = draw(st.sampled_from(rows)) if rows else ()
        kept = before[: draw(st.integers(0, len(before)))]
        rows.append((*kept, *draw(st.lists(tokens, min_size=2, max_size=25))))
    weights = st.sampled_from([0.0, 1.0, 1.0, 0.5])
    return [TokenRow(ids, (*(draw(weights) for _ in ids[1:]), 1.0)) for ids in rows]


def plain_gradient(rows: list[TokenRow]) -> tuple[float, Tensor]:
    """The mean over learned tokens, each row by itself, with transformers' own forward pass and autograd."""
    ADAPTER.grad.zero_()
    MODEL.set_attn_implementation("sdpa")
    total = sum(sum(one.weights[1:]) for one in rows)
    loss = 0.0
    for one in rows:
        logits = MODEL(input_ids=torch.tensor([one.ids]), use_cache=False).logits[0, :-1]
        losses = torch.nn.functional.cross_entropy(logits, torch.tensor(one.ids[1:]), reduction="none")
        part = (losses * torch.tensor(one.weights[1:], dtype=torch.float64)).sum() / total
        part.backward()
        loss += float(part.detach())
    return loss, ADAPTER.grad.clone()


def as_batch(rows: list[TokenRow]) -> Batch:
    return Batch(1, 1, False, tuple(Example(line, (one,), len(one.ids)) for line, one in enumerate(rows, 1)))


@settings(max_examples=60, deadline=None)
@given(token_trees(), st.sampled_from([20, 10_000]))
def test_tree_gradient_equals_that_of_each_row_alone(rows: list[TokenRow], budget: int) -> None:
    expected_loss, expected = plain_gradient(rows)
    ADAPTER.grad.zero_()
    outcome = Supervised(TreeScorer(MODEL), budget).backward(as_batch(rows))
    torch.testing.assert_close(outcome.loss, expected_loss, rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(ADAPTER.grad, expected, rtol=1e-6, atol=1e-10)


@settings(max_examples=10, deadline=None)
@given(token_trees())
def test_padded_gradient_equals_that_of_each_row_alone(rows: list[TokenRow]) -> None:
    expected_loss, expected = plain_gradient(rows)
    ADAPTER.grad.zero_()
    outcome = Supervised(PaddedScorer(MODEL), 10_000).backward(as_batch(rows))
    torch.testing.assert_close(outcome.loss, expected_loss, rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(ADAPTER.grad, expected, rtol=1e-6, atol=1e-10)


def test_long_nodes_are_cut_without_changing_the_gradient() -> None:
    generator = torch.Generator().manual_seed(3)
    prompt = tuple(torch.randint(VOCABULARY, (400,), generator=generator).tolist())
    rows = [TokenRow((*prompt, 1, 2, n), (0.0,) * 401 + (1.0, 1.0)) for n in range(3)]
    expected_loss, expected = plain_gradient(rows)
    ADAPTER.grad.zero_()
    outcome = Supervised(TreeScorer(MODEL), 10_000).backward(as_batch(rows))
    torch.testing.assert_close(outcome.loss, expected_loss, rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(ADAPTER.grad, expected, rtol=1e-6, atol=1e-10)


def test_preference_gradient_does_not_depend_on_packing() -> None:
    pairs = []
    for line in range(1, 4):
        prompt = (1, 2, 3, 4, 5, 6, 7, 8, 9, line)
        ids = [(*prompt, 11, 12 + line), (*prompt, 14, 15, 16)]
        pairs.append(Example(line, tuple(TokenRow(one, (0.0,) * 10 + (1.0,) * (len(one) - 10)) for one in ids), 15))
    references = {line: (-4.0, -5.0 - line) for line in (1, 2, 3)}
    gradients = []
    for scorer, budget in ((TreeScorer(MODEL), 10_000), (TreeScorer(MODEL), 15), (PaddedScorer(MODEL), 10_000)):
        ADAPTER.grad.zero_()
        outcome = Preference(scorer, budget, 0.3, references, {}).backward(Batch(1, 1, False, tuple(pairs)))
        gradients.append((outcome.loss, ADAPTER.grad.clone()))
    for loss, gradient in gradients[1:]:
        torch.testing.assert_close(loss, gradients[0][0], rtol=1e-9, atol=0.0)
        torch.testing.assert_close(gradient, gradients[0][1], rtol=1e-6, atol=1e-10)
