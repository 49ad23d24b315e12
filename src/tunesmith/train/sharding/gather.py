"""Parts of weights brought together on rank 0's processor, and back, one by one."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from tunesmith.train.ranks.group import Ranks


@dataclass(frozen=True, slots=True)
class Cut:
    """How a weight is cut: its rows in pieces of equal size.

    The last ranks may have less, or nothing.
    """

    shape: tuple[int, ...]
    ranks: int

    @property
    def rows(self) -> int:
        """Of a piece that is whole."""
        return -(-self.shape[0] // self.ranks)

    def slice_of(self, rank: int) -> slice:
        """The rows of a rank."""
        return slice(min(rank * self.rows, self.shape[0]), min((rank + 1) * self.rows, self.shape[0]))

    @property
    def values(self) -> int:
        """Of the whole weight."""
        return prod(self.shape)


def gathered(mine: Tensor, cut: Cut, ranks: Ranks) -> Tensor | None:
    """The whole weight on rank 0, on its processor; None elsewhere.

    `mine`: this rank's rows.
    """
    padded = torch.zeros(cut.rows, *cut.shape[1:], dtype=mine.dtype)
    padded[: mine.shape[0]].copy_(mine)
    pieces = ranks.gather_to_first(padded)
    return torch.cat(pieces)[: cut.shape[0]] if pieces else None


def scatter(whole: Tensor | None, mine: Tensor, cut: Cut, ranks: Ranks) -> None:
    """Gives `mine` its rows of what `whole` is on rank 0."""
    sent = torch.empty(cut.shape, dtype=mine.dtype) if whole is None else whole.reshape(cut.shape).to(mine.dtype)
    sent = sent.contiguous()
    ranks.copy_from_first(sent)
    mine.copy_(sent[cut.slice_of(ranks.place.rank)])


def as_flat(parts: Sequence[Tensor], cuts: Sequence[Cut], starts: Sequence[int], ranks: Ranks) -> Tensor | None:
    """All weights in one tensor on rank 0, laid out as `FullFinetuning.flat`."""
    flat = torch.zeros(starts[-1], dtype=parts[0].dtype) if ranks.leads else None
    for mine, cut, start in zip(parts, cuts, starts, strict=False):
        whole = gathered(mine, cut, ranks)
        if flat is not None and whole is not None:
            flat[start : start + cut.values].copy_(whole.flatten())
    return flat


def from_flat(
    flat: Tensor | None, parts: Sequence[Tensor], cuts: Sequence[Cut], starts: Sequence[int], ranks: Ranks
) -> None:
    """The reverse of `as_flat`."""
    for mine, cut, start in zip(parts, cuts, starts, strict=False):
        scatter(None if flat is None else flat[start : start + cut.values], mine, cut, ranks)
