"""Functions of rows of numbers: views of an address, exp, RMSNorm, softmax."""

import math

import numpy
from numba import carray
from numpy.typing import NDArray

from tunesmith.kernels.compiled import compiled, number
from tunesmith.kernels.vectors import from_bits, pointer, table_pointer

_ONE, _HALF, _ZERO = numpy.float32(1.0), numpy.float32(0.5), numpy.float32(0.0)
_LOG2E = numpy.float32(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = numpy.float32(0.693359375), numpy.float32(-2.12194440e-4)
_SMALLEST, _LARGEST = numpy.float32(-87.0), numpy.float32(88.0)
# exp(r) = 1 + r + r^2 p(r) for |r| <= ln(2) / 2; coefficients of Cephes' expf, within two units in the last place.
_P0, _P1, _P2 = numpy.float32(1.9875691500e-4), numpy.float32(1.3981999507e-3), numpy.float32(8.3334519073e-3)
_P3, _P4, _P5 = numpy.float32(4.1665795894e-2), numpy.float32(1.6666665459e-1), numpy.float32(5.0000001201e-1)


@compiled
def floats(address: int, count: int) -> NDArray[numpy.float32]:
    view: NDArray[numpy.float32] = carray(pointer(address), (count,))
    return view


@compiled
def table(address: int, rows: int, columns: int) -> NDArray[numpy.int64]:
    view: NDArray[numpy.int64] = carray(table_pointer(address), (rows, columns))
    return view


@compiled
def exp(x: numpy.float32) -> numpy.float32:
    x = min(max(x, _SMALLEST), _LARGEST)
    n = numpy.floor(x * _LOG2E + _HALF)
    r = x - n * _LN2_HIGH - n * _LN2_LOW
    p = ((((_P0 * r + _P1) * r + _P2) * r + _P3) * r + _P4) * r + _P5
    power = from_bits((number(n) + 127) << 23)
    result: numpy.float32 = (p * r * r + r + _ONE) * power
    return result


@compiled
def silu_times(gate: NDArray[numpy.float32], up: NDArray[numpy.float32]) -> None:
    """gate = gate * sigmoid(gate) * up."""
    for i in range(len(gate)):
        gate[i] = gate[i] / (_ONE + exp(-gate[i])) * up[i]


@compiled
def rms_norm(source: int, target: int, weight: int, size: int, eps: float) -> None:
    """May be in place."""
    x, y, w = floats(source, size), floats(target, size), floats(weight, size)
    squares = _ZERO
    for i in range(size):
        squares += x[i] * x[i]
    scale = numpy.float32(1.0 / math.sqrt(squares / size + eps))
    for i in range(size):
        y[i] = w[i] * (x[i] * scale)


@compiled
def rms_norm_back(x: int, grad: int, total: int, weight: int, size: int, eps: float) -> None:
    """Adds to `total` the gradient by x, where `grad` is that by the normed numbers."""
    numbers, slopes, w, sums = floats(x, size), floats(grad, size), floats(weight, size), floats(total, size)
    scale, bend = _norm_slope(numbers, slopes, w, size, eps)
    for i in range(size):
        sums[i] += slopes[i] * w[i] * scale - numbers[i] * bend


@compiled
def rms_norm_back_in_place(x: int, grad: int, weight: int, size: int, eps: float) -> None:
    """`grad`: by the normed numbers -> by x."""
    numbers, slopes, w = floats(x, size), floats(grad, size), floats(weight, size)
    scale, bend = _norm_slope(numbers, slopes, w, size, eps)
    for i in range(size):
        slopes[i] = slopes[i] * w[i] * scale - numbers[i] * bend


@compiled
def _norm_slope(
    numbers: NDArray[numpy.float32], slopes: NDArray[numpy.float32], w: NDArray[numpy.float32], size: int, eps: float
) -> tuple[numpy.float32, numpy.float32]:
    """What the weighted slopes and the numbers are multiplied with in the gradient by the numbers."""
    squares = along = _ZERO
    for i in range(size):
        squares += numbers[i] * numbers[i]
        along += slopes[i] * w[i] * numbers[i]
    scale = numpy.float32(1.0 / math.sqrt(squares / size + eps))
    return scale, along * scale * scale * scale / numpy.float32(size)


@compiled
def gated(gate: int, up: int, target: int, size: int) -> None:
    """target = gate * sigmoid(gate) * up."""
    g, u, h = floats(gate, size), floats(up, size), floats(target, size)
    for i in range(size):
        h[i] = g[i] / (_ONE + exp(-g[i])) * u[i]


@compiled
def gated_back(gate: int, up: int, grad: int, size: int) -> None:
    """The gradients by gate and up in their places, where `grad` is that by `gated`."""
    g, u, slopes = floats(gate, size), floats(up, size), floats(grad, size)
    for i in range(size):
        sigmoid = _ONE / (_ONE + exp(-g[i]))
        opened = g[i] * sigmoid
        by_up = slopes[i] * opened
        g[i] = slopes[i] * u[i] * sigmoid * (_ONE + g[i] - opened)
        u[i] = by_up


@compiled
def turn(address: int, cos: int, sin: int, size: int) -> None:
    """Rotary embedding of one head, in place: its halves turned against each other."""
    half = size // 2
    x, c, s = floats(address, size), floats(cos, size), floats(sin, size)
    for i in range(half):
        low, high = x[i], x[i + half]
        x[i] = low * c[i] - high * s[i]
        x[i + half] = high * c[i + half] + low * s[i + half]


@compiled
def turn_back(address: int, cos: int, sin: int, size: int) -> None:
    """The gradient by what was turned, from that by the result."""
    half = size // 2
    x, c, s = floats(address, size), floats(cos, size), floats(sin, size)
    for i in range(half):
        low, high = x[i], x[i + half]
        x[i] = low * c[i] + high * s[i + half]
        x[i + half] = high * c[i + half] - low * s[i]


@compiled
def softmax(scores: NDArray[numpy.float32], seen: int) -> None:
    """Over the first `seen`; the others become 0."""
    largest = scores[0]
    for i in range(1, seen):
        largest = max(largest, scores[i])
    for i in range(seen):
        scores[i] = exp(scores[i] - largest)
    total = _ZERO
    for i in range(seen):
        total += scores[i]
    scale = _ONE / total
    for i in range(seen):
        scores[i] *= scale
    for i in range(seen, len(scores)):
        scores[i] = _ZERO
