"""From logits to one token with its log-probability.

Every choice has its own sampler, so that its tokens do not depend on what else is being generated. The order is the one
OpenAI documents: penalties and bias are added to the logits, then temperature is applied, then top_p. A grammar masks
tokens after penalties and bias, so neither can bring one back. Log-probabilities are the model's own.
"""

import math
import random

import numpy
from numpy import float32, float64, int64
from numpy.typing import NDArray

from tunesmith.errors import ServerFault
from tunesmith.serve.engine.protocol import GREEDY_BELOW, GenerateRequest

NUCLEUS_FIRST_TRY = 256  # nearly always enough, in 0.2 ms; sorting all 49,152 logits takes 2.5 ms


class Sampler:
    """Draws the tokens of one choice; repeatable if the request has a seed."""

    def __init__(self, request: GenerateRequest, choice: int) -> None:
        self._request = request
        self._random = random.Random() if request.seed is None else random.Random(f"{request.seed}/{choice}")
        self._counts: dict[int, int] = {}
        self._bias_ids = numpy.array([token for token, _ in request.logit_bias], int64)
        self._bias_values = numpy.array([value for _, value in request.logit_bias], float32)
        self._matcher = None if request.grammar is None else request.grammar.start()
        self._penalised = bool(request.presence_penalty or request.frequency_penalty)

    @property
    def plain(self) -> bool:
        """True if the request is greedy and needs nothing else from the logits."""
        request = self._request
        changed = self._penalised or request.logit_bias or request.grammar or request.top_logprobs is not None
        return not changed and request.temperature < GREEDY_BELOW

    def next(self, logits_V: NDArray[float32]) -> tuple[int, float | None, tuple[tuple[int, float], ...]]:
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

    def score(self, logits_V: NDArray[float32], token: int) -> tuple[float, tuple[tuple[int, float], ...]]:
        """The log-probability of `token`, and the requested likeliest tokens with theirs."""
        ids_N = _likeliest(logits_V, self._request.top_logprobs or 0)
        chosen_N = logits_V[[token, *ids_N.tolist()]].astype(float64) - _log_sum(logits_V)
        if math.isnan(chosen_N[0]):
            raise _diverged()
        logprob, *values = chosen_N.astype(float32).tolist()
        return logprob, tuple(zip(ids_N.tolist(), values, strict=True))

    def _adjusted(self, logits_V: NDArray[float32]) -> NDArray[float32]:
        request = self._request
        if not request.logit_bias and not self._counts:
            return logits_V
        logits_V = logits_V.copy()
        if self._counts:
            counts = numpy.array([*self._counts.values()], float32)
            penalties = float32(request.presence_penalty) + float32(request.frequency_penalty) * counts
            logits_V[[*self._counts]] -= penalties
        if request.logit_bias:
            numpy.add.at(logits_V, self._bias_ids, self._bias_values)
        return logits_V

    def _choose(self, logits_V: NDArray[float32]) -> int:
        likeliest = int(logits_V.argmax())
        if math.isnan(float(logits_V[likeliest])):  # argmax takes a NaN where there is one
            raise _diverged()
        if self._request.temperature < GREEDY_BELOW:
            return likeliest
        weights_V = _weights(logits_V, self._request.temperature)
        if self._request.top_p >= 1:
            return self._draw(weights_V)
        weights_N, ids_N = _nucleus(weights_V, self._request.top_p)
        return int(ids_N[self._draw(weights_N)])

    def _draw(self, weights_N: NDArray[float32]) -> int:
        """Inverts the cumulative sum, in float64: with 49,152 terms, float32 loses the tail."""
        cumulative_N = numpy.cumsum(weights_N, dtype=float64)
        point = self._random.random() * float(cumulative_N[-1])
        index = int(numpy.searchsorted(cumulative_N, point, side="right"))
        return min(index, len(cumulative_N) - 1)


def mask_logits(bits: bytes, logits_V: NDArray[float32]) -> NDArray[float32]:
    """The logits, with -inf where `bits` has a zero.

    Ids beyond the vocabulary, the padding of the matrix, are never allowed.
    """
    allowed = numpy.unpackbits(numpy.frombuffer(bits, numpy.uint8), count=len(logits_V), bitorder="little")
    return numpy.where(allowed.view(bool), logits_V, float32(-math.inf))


def _diverged() -> ServerFault:
    return ServerFault(
        "The model answered with NaN instead of numbers: its training diverged. Train again with a smaller"
        " learning_rate_multiplier."
    )


def _weights(logits_V: NDArray[float32], temperature: float) -> NDArray[float32]:
    """What the probabilities are proportional to; the likeliest has 1."""
    weights_V: NDArray[float32] = numpy.exp((logits_V - logits_V.max()) / float32(temperature))
    return weights_V


def _log_sum(logits_V: NDArray[float32]) -> float:
    """The logarithm of the sum of all exponentials, added in float64."""
    most = logits_V.max()
    return float(most) + math.log(float(numpy.exp(logits_V - most).sum(dtype=float64)))


def _likeliest(values_V: NDArray[float32], count: int) -> NDArray[int64]:
    """The ids of the largest values, largest first; of equal ones the lower id."""
    count = min(count, len(values_V))
    if not count:
        return numpy.empty(0, int64)
    least = numpy.partition(values_V, -count)[-count]
    ids = numpy.flatnonzero(values_V >= least)
    return ids[numpy.argsort(-values_V[ids], kind="stable")][:count]


def _nucleus(weights_V: NDArray[float32], top_p: float) -> tuple[NDArray[float32], NDArray[int64]]:
    """The smallest set of likeliest tokens that reaches `top_p`, at least one: (weights, ids)."""
    total = float(weights_V.sum(dtype=float64))
    ids = _likeliest(weights_V, NUCLEUS_FIRST_TRY)
    if float(weights_V[ids].sum(dtype=float64)) < top_p * total:
        ids = numpy.argsort(-weights_V, kind="stable")
    weights_N = weights_V[ids]
    before = numpy.cumsum(weights_N, dtype=float64) - weights_N
    kept = max(1, int((before < top_p * total).sum()))
    return weights_N[:kept], ids[:kept]
