"""Token rows -> log-probabilities of their learned tokens, two ways that agree: as a token tree, and padded.

Both return the same `Scores`, so that losses, validation and tests do not know which one they use.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

import torch
from torch import Tensor, nn

from tunesmith.system.pages import evict_pages
from tunesmith.train.core.losses import token_logprobs
from tunesmith.train.core.packing import Packed, TokenRow, pack
from tunesmith.train.core.token_tree import Tree
from tunesmith.train.layers import attention
from tunesmith.train.layers.frozen_weights import FrozenMatrix
from tunesmith.train.layers.trained_head import trained_token_logprobs

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tunesmith.train.paths.compiled import CompiledLayers


@dataclass(frozen=True, slots=True)
class Computed:
    """What went through the model: tokens, those of them whose logits were needed, and the keys that queries saw."""

    tokens: int = 0
    learned: int = 0
    visible: int = 0

    def __add__(self, other: "Computed") -> "Computed":
        return Computed(self.tokens + other.tokens, self.learned + other.learned, self.visible + other.visible)


@dataclass(frozen=True, slots=True)
class Scores:
    """One entry for each learned token of each row: rows in the order given, tokens in the row's order."""

    logprobs: Tensor  # [L], carries the gradient
    correct: Tensor  # [L], is it the likeliest token?
    weights: Tensor  # [L]
    rows: Tensor  # [L], index of the row
    computed: Computed

    def row_sums(self, rows: int) -> Tensor:
        """Log-probability of each row's learned tokens together [rows]."""
        sums = torch.zeros(rows, dtype=self.logprobs.dtype, device=self.logprobs.device)
        return sums.index_add(0, self.rows, self.logprobs * self.weights)


class Scorer(Protocol):
    def score(self, rows: Sequence[TokenRow]) -> Scores: ...


class TreeScorer:
    """Each distinct token once, each logit only where it is learned.

    Raises UnsupportedAttention, from the constructor or the first score, for a model that needs the padded way.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        trains: bool = False,
        layers: "CompiledLayers | None" = None,
    ) -> None:
        """`layers`: in the place of the model's own."""
        attention.register()
        self._layers = layers
        self._trains = trains
        self._model = model
        self._head = cast(nn.Linear, model.get_output_embeddings())
        self._frozen_head = FrozenMatrix(self._head)
        if self._head.weight.requires_grad and self._head.bias is not None:
            raise attention.UnsupportedAttention("the output layer, which is trained, has a bias")
        self._cap: float = getattr(model.config.get_text_config(), "final_logit_softcapping", None) or 0.0

    def pack_head(self) -> None:
        """The output layer's weight in the layout of the fastest products."""
        self._frozen_head.pack(release=False)  # the embedding may be the same matrix
        evict_pages(self._head.weight.detach())  # few rows of it are read as embeddings

    def score(self, rows: Sequence[TokenRow]) -> Scores:
        packed = pack(rows)
        device, dtype = self._head.weight.device, self._head.weight.dtype
        sources = torch.tensor([item.source for item in packed.learned], device=device)
        targets = torch.tensor([item.target for item in packed.learned], device=device)
        hidden = self._hidden(packed, sources)
        if self._head.weight.requires_grad:  # all weights are trained
            logprobs, correct = trained_token_logprobs(hidden, self._head.weight, targets, self._cap)
        else:
            logprobs, correct = token_logprobs(hidden, self._frozen_head, targets, self._cap)
        weights = torch.tensor([item.weight for item in packed.learned], dtype=dtype, device=device)
        owners = torch.tensor([item.row for item in packed.learned], device=device)
        visible = sum(packed.positions) + packed.length
        return Scores(logprobs, correct, weights, owners, Computed(packed.length, len(targets), visible))

    def _hidden(self, packed: Packed, sources: Tensor) -> Tensor:
        """Final hidden states [len(sources), D]."""
        if self._layers is not None:
            return cast(Tensor, self._model.base_model.norm(self._layers(packed).index_select(0, sources)))
        _set_mode(self._model, attention.NAME, self._trains)
        output = self._model.base_model(
            input_ids=torch.tensor([packed.ids], device=sources.device),
            position_ids=torch.tensor([packed.positions], device=sources.device),
            use_cache=False,
            tree=Tree.of(packed),
        )
        return cast(Tensor, output.last_hidden_state[0].index_select(0, sources))


class PaddedScorer:
    """As every trainer does it: rows padded to the longest, all logits. The oracle, and the way for odd models."""

    def __init__(self, model: "PreTrainedModel", trains: bool = False) -> None:
        self._model, self._trains = model, trains
        chosen = model.config._attn_implementation  # by transformers, for this family
        self._attention = "sdpa" if chosen == attention.NAME else chosen

    def score(self, rows: Sequence[TokenRow]) -> Scores:
        _set_mode(self._model, self._attention, self._trains)
        width = max(len(row.ids) for row in rows)
        device = self._model.device
        ids = torch.tensor([[*row.ids, *[0] * (width - len(row.ids))] for row in rows], device=device)
        mask = torch.tensor([[1] * len(row.ids) + [0] * (width - len(row.ids)) for row in rows], device=device)
        logits = self._model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        learned = [
            (index, i, row.weights[i])
            for index, row in enumerate(rows)
            for i in range(1, len(row.ids))
            if row.weights[i]
        ]
        visible = sum(len(row.ids) * (len(row.ids) + 1) // 2 for row in rows)
        computed = Computed(ids.numel(), len(learned), visible)
        owners = torch.tensor([index for index, _, _ in learned], device=device)
        places = torch.tensor([i for _, i, _ in learned], device=device)
        logits_LV = logits[owners, places - 1]
        targets = ids[owners, places]
        logprobs = torch.log_softmax(logits_LV, -1).gather(1, targets.unsqueeze(1)).squeeze(1)
        weights = torch.tensor([weight for _, _, weight in learned], dtype=logprobs.dtype, device=device)
        return Scores(logprobs, logits_LV.argmax(-1) == targets, weights, owners, computed)


def _set_mode(model: "PreTrainedModel", attention_name: str, trains: bool) -> None:
    """Dropout and recomputed activations are for gradients only; `trains`: the run has one of them."""
    if model.config._attn_implementation != attention_name:
        model.set_attn_implementation(attention_name)
    wanted = trains and torch.is_grad_enabled()
    if model.training != wanted:
        model.train(wanted)
