"""AdamW over one flat tensor, the learning-rate schedules and gradient clipping."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tunesmith.settings import Schedule

BETAS = (0.9, 0.999)
EPSILON = 1e-8


def learning_rate(step: int, total_steps: int, peak: float, warmup_ratio: float, schedule: Schedule) -> float:
    """The rate of step `step` (from 1).

    It rises linearly over the warm-up, then follows `schedule`, and is never quite 0.
    """
    warmup = math.ceil(warmup_ratio * total_steps)
    if step <= warmup:
        return peak * step / (warmup + 1)
    progress = (step - warmup - 1) / max(1, total_steps - warmup)
    if schedule == "linear":
        return peak * (1 - progress)
    if schedule == "cosine":
        return peak * (1 + math.cos(math.pi * progress)) / 2
    return peak


class AdamW:
    """Adam with decoupled weight decay on one flat tensor and its gradient.

    Source: Loshchilov and Hutter, 2019, arXiv:1711.05101. `matrices`: how many of `flat`'s values, from the first,
    decay; the scales of norms and biases after them do not.
    """

    def __init__(self, flat: nn.Parameter, grad: Tensor, weight_decay: float, matrices: int | None = None) -> None:
        self._flat, self._grad = flat, grad
        self._decaying, self._weight_decay = flat.data[:matrices], weight_decay
        self._inner = torch.optim.AdamW([flat], lr=0.0, betas=BETAS, eps=EPSILON, weight_decay=0.0, fused=True)
        self._inner.state[flat] = {
            "step": torch.zeros((), dtype=torch.float32, device=flat.device),
            "exp_avg": torch.zeros_like(flat),
            "exp_avg_sq": torch.zeros_like(flat),
        }

    def norm(self) -> float:
        """The gradient's norm; not finite when any of its elements is not."""
        return float(torch.linalg.vector_norm(self._grad))

    def step(self, rate: float, norm: float, max_norm: float) -> None:
        """Clips the gradient, whose norm is `norm`, to `max_norm` (0: never) and updates."""
        if max_norm and norm > max_norm:
            self._grad.mul_(max_norm / (norm + 1e-6))
        if self._weight_decay:
            self._decaying.mul_(1 - rate * self._weight_decay)
        self._inner.param_groups[0]["lr"] = rate
        self._inner.step()

    def state(self) -> dict[str, Tensor]:
        """The step and the moments, for `load`."""
        return dict(self._inner.state[self._flat])

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state` returned."""
        for name, mine in self._inner.state[self._flat].items():
            mine.copy_(state[name])
