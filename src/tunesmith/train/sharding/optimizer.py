"""AdamW over a rank's parts of the weights.

The numbers are those of `core.optimizer.AdamW` over all of them.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from tunesmith.train.core.optimizer import BETAS, EPSILON

MOMENTS = ("exp_avg", "exp_avg_sq")


class Parts(Protocol):
    """What knows how the weights are cut: `ShardedWeights`."""

    def whole(self, parts: Sequence[Tensor]) -> Tensor | None:
        """One tensor on rank 0, None elsewhere."""
        ...

    def share_out(self, whole: Tensor | None, parts: Sequence[Tensor]) -> None:
        """The reverse of `whole`."""
        ...

    def sum_over_ranks(self, value: float) -> float:
        """The sum of the ranks' values."""
        ...


class ShardedAdamW:
    """Adam with decoupled weight decay.

    `matrices`: how many of `values`, from the first, decay.
    """

    def __init__(self, values: Sequence[nn.Parameter], matrices: int, weight_decay: float, parts: Parts) -> None:
        self._values, self._parts = list(values), parts
        self._decaying, self._weight_decay = [value.data for value in values[:matrices]], weight_decay
        self._grads = [value.grad for value in values if value.grad is not None and value.numel()]
        self._step = torch.zeros((), dtype=torch.float32, device=values[0].device)
        self._moments = {name: [torch.zeros_like(value.data) for value in values] for name in MOMENTS}
        here = [value for value in values if value.numel()]  # a weight of few rows is not on every rank
        self._inner = torch.optim.AdamW(
            here or [nn.Parameter(torch.zeros(1))], lr=0.0, betas=BETAS, eps=EPSILON, weight_decay=0.0, fused=True
        )
        self._set_state()

    def _set_state(self) -> None:
        for index, value in enumerate(self._values):
            if value.numel():
                moments = {name: self._moments[name][index] for name in MOMENTS}
                self._inner.state[value] = {"step": self._step.clone(), **moments}

    def norm(self) -> float:
        """The norm of the whole gradient; not finite when any of its elements is not."""
        norms = torch._foreach_norm(self._grads)
        mine = float(torch.stack(norms).double().square().sum()) if norms else 0.0
        return math.sqrt(self._parts.sum_over_ranks(mine))

    def step(self, rate: float, norm: float, max_norm: float) -> None:
        """Clips the gradient, whose norm is `norm`, to `max_norm` (0: never) and updates."""
        if max_norm and norm > max_norm:
            torch._foreach_mul_(
                [value.grad for value in self._values if value.grad is not None], max_norm / (norm + 1e-6)
            )
        if self._weight_decay and self._decaying:
            torch._foreach_mul_(self._decaying, 1 - rate * self._weight_decay)
        self._step += 1
        self._inner.param_groups[0]["lr"] = rate
        self._inner.step()

    def state(self) -> dict[str, Tensor]:
        """The step and the moments on rank 0, as `AdamW` has them; called by all ranks."""
        found = {name: self._parts.whole(moments) for name, moments in self._moments.items()}
        whole = {name: tensor for name, tensor in found.items() if tensor is not None}
        return {"step": self._step.cpu(), **whole} if whole else {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state` returned; ranks other than 0 have nothing to give."""
        self._step.fill_(self._parts.sum_over_ranks(float(state["step"]) if state else 0.0))
        for name, moments in self._moments.items():
            self._parts.share_out(state.get(name), moments)
        self._set_state()
