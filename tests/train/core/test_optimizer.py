"""The schedule's shape, and AdamW against torch's own on separate tensors."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from tunesmith.train.core.optimizer import BETAS, EPSILON, AdamW, learning_rate


def rates(schedule: str, warmup: float = 0.2) -> list[float]:
    return [learning_rate(step, 10, 1.0, warmup, schedule) for step in range(1, 11)]  # type: ignore[arg-type]


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_the_rate_rises_to_its_peak_and_is_never_zero(schedule: str) -> None:
    found = rates(schedule)
    assert found[0] == pytest.approx(1 / 3)
    assert found[1] == pytest.approx(2 / 3)
    assert found[2] == 1.0
    assert all(one >= other > 0 for one, other in pairwise(found[2:]))


def test_a_linear_schedule_falls_evenly() -> None:
    assert rates("linear")[2:] == pytest.approx([1 - n / 8 for n in range(8)])


def test_one_flat_tensor_is_updated_as_its_parts_would_be() -> None:
    torch.manual_seed(0)
    values = torch.randn(10)
    flat = nn.Parameter(values.clone())
    flat.grad = torch.zeros(10)
    mine = AdamW(flat, flat.grad, weight_decay=0.1)
    parts = [nn.Parameter(values[:4].clone()), nn.Parameter(values[4:].clone())]
    theirs = torch.optim.AdamW(parts, lr=0.01, betas=BETAS, eps=EPSILON, weight_decay=0.1)
    for _ in range(3):
        gradient = torch.randn(10)
        flat.grad.copy_(gradient)
        parts[0].grad, parts[1].grad = gradient[:4].clone(), gradient[4:].clone()
        expected = torch.nn.utils.clip_grad_norm_(parts, 1.0)
        norm = mine.norm()
        assert norm == pytest.approx(float(expected))
        mine.step(0.01, norm, max_norm=1.0)
        theirs.step()
    torch.testing.assert_close(flat.detach(), torch.cat([part.detach() for part in parts]), rtol=1e-5, atol=1e-6)
