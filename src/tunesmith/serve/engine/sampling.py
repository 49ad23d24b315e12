"""From logits to one token with its log-probability.

Every choice has its own sampler, so that its tokens do not depend on what else is being generated. The order is the one
OpenAI documents: penalties and bias are added to the logits, then temperature is applied, then top_p. A grammar masks
tokens after penalties and bias, so neither can bring one back. Log-probabilities are the model's own.
"""

import math
import random

import numpy as np
import torch
from torch import Tensor

from tunesmith.errors import ServerFault
from tunesmith.serve.engine.protocol import GREEDY_BELOW, GenerateRequest

NUCLEUS_FIRST_TRY = 256  # nearly always enough, in 0.2 ms; sorting all 49,152 logits takes 2.5 ms


class Sampler:
    """Draws the tokens of one choice; repeatable if the request has a seed."""

    def __init__(self, request: GenerateRequest, choice: int) -> None:
        self._request = request
        self._random = random.Random() if request.seed is None else random.Random(f"{request.seed}/{choice}")
        self._counts: dict[int, int] = {}
        self._bias_ids = torch.tensor([token for token, _ in request.logit_bias], dtype=torch.long)
        self._bias_values = torch.tensor([value for _, value in request.logit_bias], dtype=torch.float32)
        self._matcher = None if request.grammar is None else request.grammar.start()
        self._penalised = bool(request.presence_penalty or request.frequency_penalty)

    @property
    def plain(self) -> bool:
        """True if the request is greedy and needs nothing else from the logits."""
        request = self._request
        changed = self._penalised or request.logit_bias or request.grammar or request.top_logprobs is not None
        return not changed and request.temperature < GREEDY_BELOW

    def next(self, logits_V: Tensor) -> tuple[int, float | None, tuple[tuple[int, float], ...]]:
        """The next token, its log-probability, and the likeliest tokens with theirs.

        The last two only if the request asks for them. Raises ServerFault if the logits contain NaN.
        """
        adjusted_V = self._adjusted(logits_V)
        token = self._choose(adjusted_V if self._matcher is None else mask_logits(self._matcher.allowed(), adjusted_V))
        if self._matcher is not None:
            self._matcher.advance(token)
        if self._penalised:
            self._counts[token] = self._counts.get(token, 0) + 1
        if self._request.top_logprobs is None:
            return token, None, ()
        return token, *self.score(logits_V, token)

    def score(self, logits_V: Tensor, token: int) -> tuple[float, tuple[tuple[int, float], ...]]:
        """The log-probability of `token`, and the requested likeliest tokens with theirs."""
        logprobs_V = torch.log_softmax(logits_V, dim=-1)
        values, ids = torch.topk(logprobs_V, self._request.top_logprobs or 0)
        logprob = float(logprobs_V[token])
        if math.isnan(logprob):
            raise _diverged()
        return logprob, tuple(zip(ids.tolist(), values.tolist(), strict=True))

    def _adjusted(self, logits_V: Tensor) -> Tensor:
        request = self._request
        if not request.logit_bias and not self._counts:
            return logits_V
        logits_V = logits_V.clone()
        if self._counts:
            ids = torch.tensor(list(self._counts), dtype=torch.long)
            counts = torch.tensor(list(self._counts.values()), dtype=logits_V.dtype)
            logits_V[ids] -= request.presence_penalty + request.frequency_penalty * counts
        if request.logit_bias:
            logits_V.index_add_(0, self._bias_ids, self._bias_values.to(logits_V.dtype))
        return logits_V

    def _choose(self, logits_V: Tensor) -> int:
        likeliest = int(logits_V.argmax())
        if math.isnan(float(logits_V[likeliest])):  # argmax takes a NaN where there is one
            raise _diverged()
        if self._request.temperature < GREEDY_BELOW:
            return likeliest
        probabilities_V = torch.softmax(logits_V / self._request.temperature, dim=-1)
        if self._request.top_p >= 1:
            return self._draw(probabilities_V)
        probabilities_N, ids_N = _nucleus(probabilities_V, self._request.top_p)
        return int(ids_N[self._draw(probabilities_N)])

    def _draw(self, probabilities_N: Tensor) -> int:
        """Inverts the cumulative sum, in float64: with 49,152 terms, float32 loses the tail."""
        cumulative_N = torch.cumsum(probabilities_N, dim=0, dtype=torch.float64)
        point = self._random.random() * float(cumulative_N[-1])
        index = int(torch.searchsorted(cumulative_N, point, right=True))
        return min(index, len(cumulative_N) - 1)


def mask_logits(bits: bytes, logits_V: Tensor) -> Tensor:
    """The logits, with -inf where `bits` has a zero.

    Ids beyond the vocabulary, the padding of the matrix, are never allowed.
    """
    allowed = np.unpackbits(np.frombuffer(bits, dtype=np.uint8), count=len(logits_V), bitorder="little")
    forbidden_V = torch.from_numpy(allowed == 0).to(logits_V.device)
    return logits_V.masked_fill(forbidden_V, -math.inf)


def _diverged() -> ServerFault:
    return ServerFault(
        "The model answered with NaN instead of numbers: its training diverged. Train again with a smaller"
        " learning_rate_multiplier."
    )


def _nucleus(probabilities_V: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """The smallest set of likeliest tokens that reaches `top_p`, at least one: (probabilities, ids)."""
    values, ids = torch.topk(probabilities_V, min(NUCLEUS_FIRST_TRY, len(probabilities_V)))
    if float(values.sum()) < top_p:
        values, ids = torch.sort(probabilities_V, descending=True)
    before = torch.cumsum(values, dim=0) - values
    kept = max(1, int((before < top_p).sum()))
    return values[:kept], ids[:kept]
