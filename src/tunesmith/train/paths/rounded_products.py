"""Products in bfloat16, switched on once they agree with exact ones.

A few rows go through the compiled layers with both. What differs is the rounding of activations and of their gradients
to bfloat16, as mixed precision has it everywhere; where more differs, products stay exact, and the job's events say so.
"""

import math
from collections.abc import Sequence

from torch import Tensor

from tunesmith.kernels.dots.unit import DotUnit, dot_unit
from tunesmith.models.options_check import NO_UNIT, refuse_precision
from tunesmith.train.adapters.lora import Adapter
from tunesmith.train.core.packing import TokenRow
from tunesmith.train.paths.compiled import CompiledLayers
from tunesmith.train.paths.scoring import Scorer, TreeScorer
from tunesmith.train.paths.verify import BF16_MEAN_TOLERANCE, expect
from tunesmith.train.protocol.events import Listener, Log

MOST_OF_GRADIENT = 0.1  # of its norm; rounding makes some hundredths, a wrong product one and more
NAMES = {DotUnit.VECTOR: "AVX512-BF16", DotUnit.TILES: "AMX"}


def round_products(scorer: Scorer, rows: Sequence[TokenRow], adapter: Adapter, emit: Listener) -> None:
    """Has this processor's unit multiply, unless it computes something else.

    Raises InvalidRequest where there is none, or where it does not multiply what this run has.
    """
    unit, layers = dot_unit(), scorer.stack if isinstance(scorer, TreeScorer) else None
    if not unit:
        refuse_precision(NO_UNIT)
    if not isinstance(layers, CompiledLayers):
        refuse_precision("its layers do not run as compiled code")
    elif not layers.takes_dots:
        refuse_precision("the weights of its layers are not bfloat16 numbers, or have odd sizes")
    else:
        _switch_on(layers, unit, scorer, rows, adapter, emit)


def _switch_on(
    layers: CompiledLayers, unit: DotUnit, scorer: Scorer, rows: Sequence[TokenRow], adapter: Adapter, emit: Listener
) -> None:
    exact = expect(scorer, rows, adapter, with_gradient=True)
    layers.use_dots(unit)
    rounded = expect(scorer, rows, adapter, with_gradient=True)
    mean = float((rounded.logprobs - exact.logprobs).abs().mean())
    share = _distance(exact.gradient, rounded.gradient)
    told = f"log-probabilities of a few rows are {mean:.2g} off in the mean, their gradient {share:.2g} of its norm"
    if mean <= BF16_MEAN_TOLERANCE and share <= MOST_OF_GRADIENT:  # also false for NaN
        emit(Log("info", f"Products with the base's weights are made in bfloat16 ({NAMES[unit]}): {told}."))
        return
    layers.use_dots(DotUnit.NONE)
    emit(Log("warn", f"Products stay exact. In bfloat16 ({NAMES[unit]}) more than rounding differs: {told}."))


def _distance(expected: Tensor | None, gradient: Tensor | None) -> float:
    """Of two gradients, as a share of the first one's norm; infinite where one is missing."""
    if expected is None or gradient is None:
        return math.inf
    return float((gradient - expected).norm() / expected.norm())
