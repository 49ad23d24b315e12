"""Token rows -> log-probabilities of their learned tokens.

Every scorer returns the same `Scores`, so that losses, validation and tests do not know which path they use:
`TreeScorer` here, `paths.padded.PaddedScorer` as the reference.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

import torch
from torch import Tensor, nn

from tunesmith.families.layout import logit_cap, logit_scale
from tunesmith.system.pages import evict_pages
from tunesmith.train.core.losses import token_logprobs
from tunesmith.train.core.packing import TokenRow, pack
from tunesmith.train.layers.attention import UnsupportedAttention
from tunesmith.train.layers.frozen_weights import FrozenHead, FrozenMatrix
from tunesmith.train.layers.trained_head import trained_token_logprobs
from tunesmith.train.paths.layer_stack import LayerStack, TorchLayers

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class Computed:
    """What went through the model.

    Tokens, those of them whose logits were needed, and the keys that queries saw.
    """

    tokens: int = 0
    learned: int = 0
    visible: int = 0

    def __add__(self, other: "Computed") -> "Computed":
        return Computed(self.tokens + other.tokens, self.learned + other.learned, self.visible + other.visible)


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of all learned tokens, in the order of rows and tokens."""

    logprobs: Tensor  # [L], carries the gradient
    correct: Tensor  # [L], is it the likeliest token?
    weights: Tensor  # [L]
    rows: Tensor  # [L], index of the row
    computed: Computed

    def row_sums(self, rows: int) -> Tensor:
        """The summed log-probability of each row's learned tokens [rows]."""
        sums = torch.zeros(rows, dtype=self.logprobs.dtype, device=self.logprobs.device)
        return sums.index_add(0, self.rows, self.logprobs * self.weights)


class Scorer(Protocol):
    """A path through the base: what losses and validation use."""

    def score(self, rows: Sequence[TokenRow]) -> Scores:
        """The log-probabilities of the rows' learned tokens, under autograd."""
        ...


class TreeScorer:
    """Computes each distinct token once, and logits only where they are learned."""

    def __init__(self, model: "PreTrainedModel", stack: LayerStack | None = None) -> None:
        """`stack`: the layers of `model`; None: its own modules.

        Raises UnsupportedAttention where its output layer is of an unknown kind.
        """
        self.stack = stack or TorchLayers(model)
        self._head = cast(nn.Linear, model.get_output_embeddings())
        self._frozen_head: FrozenHead = FrozenMatrix(self._head)
        if self._head.weight.requires_grad and self._head.bias is not None:
            raise UnsupportedAttention("the output layer, which is trained, has a bias")
        # What these do not know of, `paths.verify` finds.
        self._cap, self._scale = logit_cap(model.config), logit_scale(model.config)

    def use_head(self, head: FrozenHead) -> None:
        """Takes the output layer's products from `head`."""
        self._frozen_head = head

    def pack_head(self) -> None:
        """Repacks the output layer's weight for the fastest products."""
        packed = FrozenMatrix(self._head)
        packed.pack(release=False)  # the embedding may be the same matrix
        self.use_head(packed)
        evict_pages(self._head.weight.detach())  # few rows of it are read as embeddings

    def score(self, rows: Sequence[TokenRow]) -> Scores:
        """See `Scorer`; UnsupportedAttention for a model that needs the padded path."""
        packed = pack(rows)
        device = self._head.weight.device
        sources = torch.tensor([item.source for item in packed.learned], device=device)
        targets = torch.tensor([item.target for item in packed.learned], device=device)
        hidden = self.stack.hidden(packed, sources)
        if self._scale != 1.0:
            hidden = hidden * self._scale
        if self._head.weight.requires_grad:  # all weights are trained
            logprobs, correct = trained_token_logprobs(hidden, self._head.weight, targets, self._cap)
        else:
            logprobs, correct = token_logprobs(hidden, self._frozen_head, targets, self._cap)
        weights = torch.tensor([item.weight for item in packed.learned], dtype=logprobs.dtype, device=device)
        owners = torch.tensor([item.row for item in packed.learned], device=device)
        visible = sum(packed.positions) + packed.length
        return Scores(logprobs, correct, weights, owners, Computed(packed.length, len(targets), visible))
