"""Trained values in one tensor, which every rank has as a whole."""

from typing import Self

import torch
from torch import Tensor, nn

from tunesmith.train.core.optimizer import AdamW
from tunesmith.train.ranks.agreement import check_same_values
from tunesmith.train.ranks.group import Ranks


class FlatParameters:
    """What `Adapter` and `FullFinetuning` have in common.

    `flat` has all values, `grad` the gradients of these.
    """

    flat: nn.Parameter
    grad: Tensor
    sharded = False

    @property
    def matrices(self) -> int:
        """How many of `flat`'s values belong to matrices: they come first, and decay."""
        return self.flat.numel()

    @property
    def nbytes(self) -> int:
        """See `TrainableParameters`."""
        return self.flat.nbytes

    @property
    def bytes_here(self) -> int:
        """See `TrainableParameters`."""
        return self.flat.nbytes

    @property
    def device(self) -> torch.device:
        """See `TrainableParameters`."""
        return self.flat.device

    def zero_grad(self) -> None:
        """See `TrainableParameters`."""
        self.grad.zero_()

    def add_up(self, ranks: Ranks) -> None:
        """See `TrainableParameters`."""
        ranks.add_up(self.grad)

    def check_same(self, ranks: Ranks, step: int) -> None:
        """See `TrainableParameters`."""
        check_same_values(ranks, self.flat, step)

    def optimizer(self, weight_decay: float) -> AdamW:
        """See `TrainableParameters`."""
        return AdamW(self.flat, self.grad, weight_decay, self.matrices)

    def values(self) -> Tensor:
        """See `TrainableParameters`."""
        return self.flat.detach()

    def take(self, values: Tensor | None) -> None:
        """See `TrainableParameters`."""
        if values is not None:
            self.flat.data.copy_(values)

    def gathered(self) -> Self:
        """See `TrainableParameters`."""
        return self
