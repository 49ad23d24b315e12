"""The check before a run: do a few rows agree with the reference path?

A family that has compiled code is checked forward. Of any other the gradient is compared too: a wrong one would show in
no log, and a backward pass that fails would end the job in its first step.

What is not covered: the gradient where all weights are trained, since two copies of it are half as much memory again.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from tunesmith.system.pages import evict_pages
from tunesmith.train.adapters.checkpoint import TrainableParameters
from tunesmith.train.adapters.lora import Adapter
from tunesmith.train.core.batches import Example
from tunesmith.train.core.packing import TokenRow
from tunesmith.train.layers.wide_products import is_narrow, wide_head
from tunesmith.train.paths.scoring import Scorer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ROWS = 2
TOKENS = 32  # of each row: enough to show wrong positions, masks and neighbours; half a second with a small base
TOLERANCE = 2e-3  # of a log-probability in fp32; wrong attention is off by 0.1 or more
# In bfloat16 two right computations of SmolLM2-135M differ by up to 0.25 at one token, and by 0.03 in the mean; each is
# as far from float32. A wrong mask is off by whole numbers at some tokens, and by more than 0.1 in the mean.
BF16_TOLERANCE = 0.75
BF16_MEAN_TOLERANCE = 0.1
GRADIENT_TOLERANCE = 0.02  # of the largest value, in fp32; a wrong formula is off by half of it or more
BF16_GRADIENT_TOLERANCE = 0.5


class Disagreement(Exception):
    """The fast path computes something else than the reference path for this model."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What the reference path gives for a few rows."""

    rows: Sequence[TokenRow]
    logprobs: Tensor  # [L]
    gradient: Tensor | None = None  # of their sum; None: not compared


def probe(examples: Sequence[Example]) -> list[TokenRow]:
    """The beginnings of a few rows, and one of them with another ending.

    Every token of them is learned.
    """
    rows = [example.rows[0].ids[:TOKENS] for example in examples[:ROWS]]
    first = rows[0]
    half = max(2, len(first) // 2)
    rows.append((*first[:half], *reversed(first[:half])))
    return [TokenRow(ids, (1.0,) * len(ids)) for ids in rows]


@contextmanager
def float32_head(model: "PreTrainedModel") -> Iterator[None]:
    """Within it the model's own output layer gives its logits in float32.

    As the faster paths' does. Rounded to bfloat16 they differ by an eighth between two computations that are both
    right, and the check would look at little else.
    """
    head = cast(nn.Linear, model.get_output_embeddings())
    if not is_narrow(head.weight):
        yield
        return
    own = vars(head).get("forward")
    head.forward = partial(wide_head, head)  # type: ignore[method-assign]
    try:
        yield
    finally:
        del head.forward
        if own is not None:  # as accelerate's hooks have it
            head.forward = own  # type: ignore[method-assign]
        if head.weight.device.type == "cpu":
            evict_pages(head.weight.detach())


def reference_logprobs(scorer: Scorer, rows: Sequence[TokenRow]) -> Tensor:
    """Log-probabilities of the rows' learned tokens [L], without gradients."""
    with torch.no_grad():
        return scorer.score(rows).logprobs.float()


def expect(
    scorer: Scorer, rows: Sequence[TokenRow], trainable: TrainableParameters, *, with_gradient: bool
) -> Expected:
    """What `scorer`, the reference path, gives for the rows."""
    if not with_gradient or not isinstance(trainable, Adapter):
        return Expected(rows, reference_logprobs(scorer, rows))
    return Expected(rows, *_with_gradient(scorer, rows, trainable))


def compare(expected: Expected, scorer: Scorer, trainable: TrainableParameters, dtype: torch.dtype) -> None:
    """Raises Disagreement, naming the difference."""
    exact = dtype in (torch.float32, torch.float64) and torch.get_float32_matmul_precision() == "highest"  # not TF32
    if expected.gradient is None or not isinstance(trainable, Adapter):
        logprobs = reference_logprobs(scorer, expected.rows)
    else:
        logprobs, gradient = _with_gradient(scorer, expected.rows, trainable)
        _compare_gradients(expected.gradient, gradient, GRADIENT_TOLERANCE if exact else BF16_GRADIENT_TOLERANCE)
    differences = (logprobs - expected.logprobs).abs()
    most, mean = float(differences.max()), float(differences.mean())
    if not most <= (TOLERANCE if exact else BF16_TOLERANCE):  # also true for nan
        raise Disagreement(f"log-probabilities differ by {most:.2g} from the reference path's")
    if not exact and not mean <= BF16_MEAN_TOLERANCE:
        raise Disagreement(f"log-probabilities differ by {mean:.2g} in the mean from the reference path's")


def _compare_gradients(expected: Tensor, gradient: Tensor, tolerance: float) -> None:
    largest = float(expected.abs().max())
    difference = float((gradient - expected).abs().max())
    if not difference <= tolerance * largest:
        raise Disagreement(f"gradients differ by {difference:.2g} of at most {largest:.2g} from the reference path's")


def _with_gradient(scorer: Scorer, rows: Sequence[TokenRow], trainable: Adapter) -> tuple[Tensor, Tensor]:
    """Leaves the trainable parameters without a gradient."""
    trainable.grad.zero_()
    logprobs = scorer.score(rows).logprobs
    logprobs.float().sum().backward()
    gradient = trainable.grad.clone()
    trainable.grad.zero_()
    return logprobs.detach().float(), gradient
