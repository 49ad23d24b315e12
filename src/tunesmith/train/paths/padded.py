"""The reference path: rows padded to one length, through the base's own modules.

The output layer is the base's own too. Other paths are checked against this one, and bases that they do not compute are
trained on it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from tunesmith.train.core.losses import sum_dtype
from tunesmith.train.core.packing import TokenRow
from tunesmith.train.layers import attention
from tunesmith.train.paths.layer_stack import set_mode
from tunesmith.train.paths.scoring import Computed, Scores

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


class PaddedScorer:
    """Scores padded rows as most trainers do: all logits of all tokens."""

    def __init__(self, model: "PreTrainedModel", trains: bool = False) -> None:
        self._model, self._trains = model, trains
        chosen = model.config._attn_implementation  # by transformers, for this family
        self._attention = "sdpa" if chosen == attention.NAME else chosen

    def score(self, rows: Sequence[TokenRow]) -> Scores:
        """See `Scorer`."""
        ids, mask = self._padded(rows)
        set_mode(self._model, self._attention, self._trains)
        logits = self._model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        learned = [
            (index, i, row.weights[i])
            for index, row in enumerate(rows)
            for i in range(1, len(row.ids))
            if row.weights[i]
        ]
        visible = sum(len(row.ids) * (len(row.ids) + 1) // 2 for row in rows)
        owners = torch.tensor([index for index, _, _ in learned], device=ids.device)
        places = torch.tensor([i for _, i, _ in learned], device=ids.device)
        logits_LV = logits[owners, places - 1].to(sum_dtype(logits.dtype))
        targets = ids[owners, places]
        logprobs = torch.log_softmax(logits_LV, -1).gather(1, targets.unsqueeze(1)).squeeze(1)
        weights = torch.tensor([weight for _, _, weight in learned], dtype=logprobs.dtype, device=ids.device)
        computed = Computed(ids.numel(), len(learned), visible)
        return Scores(logprobs, logits_LV.argmax(-1) == targets, weights, owners, computed)

    def _padded(self, rows: Sequence[TokenRow]) -> "tuple[Tensor, Tensor]":
        """Ids [rows, longest] and the mask of the real tokens."""
        width, device = max(len(row.ids) for row in rows), self._model.device
        ids = torch.tensor([[*row.ids, *[0] * (width - len(row.ids))] for row in rows], device=device)
        mask = torch.tensor([[1] * len(row.ids) + [0] * (width - len(row.ids)) for row in rows], device=device)
        return ids, mask
