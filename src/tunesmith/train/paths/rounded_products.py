"""Products in bfloat16, switched on once they agree with exact ones.

A few rows go through the compiled layers with both. What differs is the rounding of activations and of their gradients
to bfloat16, as mixed precision has it everywhere; where more differs, products stay exact, and the job's events say so.
"""

import math
from collections.abc import Sequence

from torch import Tensor

from tunesmith.kernels.dots.unit import DotUnit, dot_unit
from tunesmith.models.options_check import NO_UNIT
from tunesmith.train.adapters.checkpoint import TrainableParameters
from tunesmith.train.adapters.lora import Adapter
from tunesmith.train.core.packing import TokenRow
from tunesmith.train.paths.compiled import CompiledLayers
from tunesmith.train.paths.layer_stack import LayerStack
from tunesmith.train.paths.scoring import Scorer, TreeScorer
from tunesmith.train.paths.verify import BF16_MEAN_TOLERANCE, expect
from tunesmith.train.protocol.events import Listener, Log

MOST_OF_GRADIENT = 0.1  # of its norm; rounding makes some hundredths, a wrong product one and more
NAMES = {DotUnit.VECTOR: "AVX512-BF16", DotUnit.TILES: "AMX"}


def round_products(scorer: Scorer, rows: Sequence[TokenRow], trainable: TrainableParameters, emit: Listener) -> None:
    """Has this processor's unit multiply, unless it computes something else.

    Where it cannot multiply what this run has, products are exact, and an event says why: a job that has waited for its
    turn, or is resumed on another machine, is not lost over its speed.
    """
    unit, layers = dot_unit(), scorer.stack if isinstance(scorer, TreeScorer) else None
    gap = _gap(unit, layers)
    if gap is None and isinstance(layers, CompiledLayers) and isinstance(trainable, Adapter):
        _switch_on(layers, unit, scorer, rows, trainable, emit)
    else:
        emit(Log("warn", f"matmul_precision is 'bfloat16', but products stay exact: {gap}."))


def _gap(unit: DotUnit, layers: LayerStack | None) -> str | None:
    if not unit:
        return NO_UNIT
    if not isinstance(layers, CompiledLayers):
        return "the layers do not run as compiled code"
    return None if layers.takes_dots else "the weights of the layers are not kept in bfloat16, or have odd sizes"


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
