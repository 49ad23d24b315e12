"""FSDP's two collectives over gloo, waited for in Python.

torch's own wait in C++, where no signal is heard, and where the loss of a rank is a RuntimeError.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from tunesmith.train.ranks.group import Ranks


class HeardAllGather:
    """Gives every rank the parts of all."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks

    def allocate(self, size: Sequence[int], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Memory for the parts."""
        return torch.empty(*size, dtype=dtype, device=device)

    def __call__(
        self, output_tensor: Tensor, input_tensor: Tensor, group: dist.ProcessGroup, async_op: bool = False
    ) -> None:
        """As FSDP's `AllGather`; the result is there when this returns."""
        parts = list(output_tensor.view(self._ranks.size, -1))
        self._ranks.wait(dist.all_gather(parts, input_tensor.view(-1), group=group, async_op=True))


class HeardReduceScatter:
    """Gives each rank the sum of its part over all, added in the order of the ranks.

    gloo's own reduce_scatter is done only within a wait in C++ (torch 2.13).
    """

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks

    def allocate(self, size: Sequence[int], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Memory for the sums."""
        return torch.empty(*size, dtype=dtype, device=device)

    def __call__(
        self,
        output_tensor: Tensor,
        input_tensor: Tensor,
        group: dist.ProcessGroup,
        op: dist.ReduceOp.RedOpType,
        async_op: bool = False,
    ) -> None:
        """As FSDP's `ReduceScatter`; the result is there when this returns."""
        received = torch.empty_like(input_tensor)
        self._ranks.wait(dist.all_to_all_single(received, input_tensor, group=group, async_op=True))
        torch.sum(received.view(self._ranks.size, -1), 0, out=output_tensor)
