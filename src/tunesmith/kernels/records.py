"""What serving and training share: records, counters, matrices, activations."""

from enum import IntEnum

import numpy
from numpy.typing import NDArray

from tunesmith.kernels.thread_pool import CACHE_LINE

Records = NDArray[numpy.void]
"""An array of one of the record types of `step_args`."""


class LayerMatrix(IntEnum):
    """The order of a layer's matrices; linears of the same input are one matrix."""

    QKV = 0
    OUTPUT = 1
    GATE_UP = 2
    DOWN = 3


LAYER_MATRICES = len(LayerMatrix)


class Activation(IntEnum):
    """What the gate of the MLP goes through."""

    SILU = 0
    GELU_TANH = 1  # GELU with tanh in place of erf


def record(protocol: type) -> numpy.dtype[numpy.void]:
    """The record type with a protocol's fields: int as int64, float as float64."""
    kinds = {int: numpy.int64, float: numpy.float64}
    return numpy.dtype([(name, kinds[kind]) for name, kind in protocol.__annotations__.items()])


def new_counters(count: int) -> NDArray[numpy.int64]:
    """Counters of pieces of work [count, 8], a cache line for each phase.

    All are 0 when a step starts.
    """
    return numpy.zeros((count, CACHE_LINE // 8), numpy.int64)
