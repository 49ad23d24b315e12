"""Losses against torch's and the formulas, on small numbers."""

import math

import pytest
import torch

from tunesmith.train.core import losses
from tunesmith.train.core.losses import dpo_loss, slices, supervised_loss, token_logprobs
from tunesmith.train.layers.frozen_weights import FrozenMatrix
from tunesmith.train.layers.trained_head import trained_token_logprobs


@pytest.mark.parametrize("cap", [0.0, 1.5])
@pytest.mark.parametrize("tokens", [96, 2])  # at once, of nine
def test_token_logprobs_have_torchs_value_and_gradient(
    cap: float, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "CHUNK_LOGITS", 16)
    monkeypatch.setattr(losses, "CHUNK_TOKENS", tokens)
    torch.manual_seed(0)
    hidden = torch.randn(9, 4, dtype=torch.float64, requires_grad=True)
    head = torch.nn.Linear(4, 8, dtype=torch.float64).requires_grad_(False)
    targets = torch.randint(8, (9,))
    logprobs, correct = token_logprobs(hidden, FrozenMatrix(head), targets, cap)
    logits = head(hidden)
    if cap:
        logits = cap * torch.tanh(logits / cap)
    expected = torch.log_softmax(logits, -1).gather(1, targets.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(logprobs, expected)
    assert torch.equal(correct, logits.argmax(-1) == targets)
    direction = torch.randn(9, dtype=torch.float64)
    (mine,) = torch.autograd.grad((logprobs * direction).sum(), hidden)
    (theirs,) = torch.autograd.grad((expected * direction).sum(), hidden)
    torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize(
    ("count", "lengths"),
    [(0, []), (1, [1]), (96, [96]), (140, [140]), (150, [75, 75]), (181, [90, 91]), (400, [100, 100, 100, 100])],
)
def test_slices_of_the_logits_are_nearly_equal_and_not_small(count: int, lengths: list[int]) -> None:
    found = slices(count, 96)
    assert [here.stop - here.start for here in found] == lengths
    assert [index for here in found for index in range(count)[here]] == list(range(count))


@pytest.mark.parametrize(("outputs", "tokens"), [(49_152, 96), (151_936, 96), (4_096, 1024)])
def test_a_large_vocabulary_has_no_short_slices(outputs: int, tokens: int) -> None:
    """27 tokens of the largest, by their logits alone."""
    assert losses._tokens_at_once(torch.device("cpu"), outputs) == tokens


def test_supervised_loss_is_the_weighted_mean() -> None:
    loss = supervised_loss(torch.tensor([-1.0, -3.0, -5.0]), torch.tensor([1.0, 0.0, 1.0]), 2.0)
    assert float(loss) == 3.0


def test_dpo_loss_is_that_of_the_paper() -> None:
    chosen, rejected, reference_chosen, reference_rejected = torch.tensor([[-1.0], [-4.0], [-2.0], [-3.0]])
    loss, margin = dpo_loss(chosen, rejected, reference_chosen, reference_rejected, beta=0.5)
    assert float(margin) == 0.5 * ((-1 + 2) - (-4 + 3))
    assert float(loss) == pytest.approx(-math.log(1 / (1 + math.exp(-1.0))))


@pytest.mark.parametrize("trained", [False, True], ids=["frozen", "trained"])
def test_a_bf16_bases_log_probabilities_are_summed_in_float32(trained: bool) -> None:
    """Neither its logits nor their softmax are rounded: in bfloat16 values near -9 are a sixteenth apart."""
    torch.manual_seed(0)
    hidden = (2 * torch.randn(40, 64)).bfloat16().requires_grad_()
    head = torch.nn.Linear(64, 3000, bias=False).bfloat16().requires_grad_(trained)
    targets = torch.randint(3000, (40,))
    if trained:
        logprobs, _ = trained_token_logprobs(hidden, head.weight, targets)
    else:
        logprobs, _ = token_logprobs(hidden, FrozenMatrix(head), targets)
    logits = hidden.float() @ head.weight.float().t()
    expected = torch.log_softmax(logits, -1).gather(1, targets.unsqueeze(1)).squeeze(1)
    assert logprobs.dtype == torch.float32
    torch.testing.assert_close(logprobs, expected, rtol=0, atol=1e-5)
    (mine,) = torch.autograd.grad(logprobs.sum(), hidden)
    (theirs,) = torch.autograd.grad(expected.sum(), hidden)
    assert mine.dtype == torch.bfloat16
    torch.testing.assert_close(mine, theirs, rtol=0.02, atol=0.02)
