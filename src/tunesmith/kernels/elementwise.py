"""Functions of rows of float32 numbers, and their gradients.

exp, RMSNorm, SiLU, GELU, soft caps, rotary embedding and softmax. Rows are given by their addresses where they are
parts of a buffer.
"""

import math
from collections.abc import Callable
from typing import cast

import numpy
from numba import carray
from numpy.typing import NDArray

from tunesmith.kernels.compiler import compiled
from tunesmith.kernels.intrinsics import from_bits, pointer, table_pointer

_ONE, _HALF, _ZERO = numpy.float32(1.0), numpy.float32(0.5), numpy.float32(0.0)
_TWO, _THREE = numpy.float32(2.0), numpy.float32(3.0)
# GELU with tanh: x * (1 + tanh(u)) / 2 = x / (1 + exp(-2 u)), u = sqrt(2 / pi) * (x + 0.044715 x^3).
_GELU_SLOPE, _GELU_CUBE = numpy.float32(2.0 * math.sqrt(2.0 / math.pi)), numpy.float32(0.044715)
_LOG2E = numpy.float32(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = numpy.float32(0.693359375), numpy.float32(-2.12194440e-4)
_int32 = cast(Callable[[numpy.float32], int], numpy.int32)
_SMALLEST, _LARGEST = numpy.float32(-87.0), numpy.float32(88.0)
# exp(r) = 1 + r + r^2 p(r) for |r| <= ln(2) / 2; coefficients of Cephes' expf, within two units in the last place.
_P0, _P1, _P2 = numpy.float32(1.9875691500e-4), numpy.float32(1.3981999507e-3), numpy.float32(8.3334519073e-3)
_P3, _P4, _P5 = numpy.float32(4.1665795894e-2), numpy.float32(1.6666665459e-1), numpy.float32(5.0000001201e-1)


@compiled
def floats(address: int, count: int) -> NDArray[numpy.float32]:
    """The float32 numbers [count] at an address."""
    view: NDArray[numpy.float32] = carray(pointer(address), (count,))
    return view


@compiled
def table(address: int, rows: int, columns: int) -> NDArray[numpy.int64]:
    """The int64 table [rows, columns] at an address."""
    view: NDArray[numpy.int64] = carray(table_pointer(address), (rows, columns))
    return view


@compiled
def exp(x: numpy.float32) -> numpy.float32:
    """e^x within two units in the last place, for -87 <= x <= 88.

    Beyond these bounds the value at the bound; NaN stays NaN.
    """
    x = min(max(x, _SMALLEST), _LARGEST)
    n = numpy.floor(x * _LOG2E + _HALF)
    r = x - n * _LN2_HIGH - n * _LN2_LOW
    p = ((((_P0 * r + _P1) * r + _P2) * r + _P3) * r + _P4) * r + _P5
    # A processor with AVX2 makes vectors of integers of 32 bits from floats, but none of 64.
    power = from_bits((_int32(n) + 127) << 23)
    result: numpy.float32 = (p * r * r + r + _ONE) * power
    return result


@compiled
def silu_mul_in_place(gate: NDArray[numpy.float32], up: NDArray[numpy.float32]) -> None:
    """gate = silu(gate) * up."""
    for i in range(len(gate)):
        gate[i] = gate[i] / (_ONE + exp(-gate[i])) * up[i]


@compiled
def gelu_mul_in_place(gate: NDArray[numpy.float32], up: NDArray[numpy.float32]) -> None:
    """gate = gelu(gate) * up, by the formula with tanh."""
    for i in range(len(gate)):
        inner = _GELU_SLOPE * gate[i] * (_ONE + _GELU_CUBE * gate[i] * gate[i])
        gate[i] = gate[i] / (_ONE + exp(-inner)) * up[i]


@compiled
def soft_cap(numbers: NDArray[numpy.float32], cap: numpy.float32) -> None:
    """Replaces each number x by cap * tanh(x / cap)."""
    scale = _TWO / cap
    for i in range(len(numbers)):
        numbers[i] = cap - _TWO * cap / (exp(numbers[i] * scale) + _ONE)


@compiled
def rms_norm(source: int, target: int, weight: int, size: int, eps: float) -> None:
    """target = weight * source / sqrt(mean(source^2) + eps), of `size` numbers.

    Source and target may be the same.
    """
    x, y, w = floats(source, size), floats(target, size), floats(weight, size)
    squares = _ZERO
    for i in range(size):
        squares += x[i] * x[i]
    scale = numpy.float32(1.0 / math.sqrt(squares / size + eps))
    for i in range(size):
        y[i] = w[i] * (x[i] * scale)


@compiled
def rms_norm_back(x: int, grad: int, total: int, weight: int, size: int, eps: float) -> None:
    """Adds to `total` the gradient of x, the input of `rms_norm`.

    `grad` is the gradient of its output; all are of `size` numbers.
    """
    numbers, grads, w, sums = floats(x, size), floats(grad, size), floats(weight, size), floats(total, size)
    scale, correction = _norm_grad_factors(numbers, grads, w, size, eps)
    for i in range(size):
        sums[i] += grads[i] * w[i] * scale - numbers[i] * correction


@compiled
def rms_norm_back_in_place(x: int, grad: int, weight: int, size: int, eps: float) -> None:
    """Replaces the gradient of the output of `rms_norm` by that of its input x."""
    numbers, grads, w = floats(x, size), floats(grad, size), floats(weight, size)
    scale, correction = _norm_grad_factors(numbers, grads, w, size, eps)
    for i in range(size):
        grads[i] = grads[i] * w[i] * scale - numbers[i] * correction


@compiled
def _norm_grad_factors(
    numbers: NDArray[numpy.float32], grads: NDArray[numpy.float32], w: NDArray[numpy.float32], size: int, eps: float
) -> tuple[numpy.float32, numpy.float32]:
    """The factors f and g of the input's gradient: grad * w * f - numbers * g."""
    squares = along = _ZERO
    for i in range(size):
        squares += numbers[i] * numbers[i]
        along += grads[i] * w[i] * numbers[i]
    scale = numpy.float32(1.0 / math.sqrt(squares / size + eps))
    return scale, along * scale * scale * scale / numpy.float32(size)


@compiled
def silu_mul(gate: int, up: int, target: int, size: int) -> None:
    """target = silu(gate) * up, of `size` numbers."""
    g, u, h = floats(gate, size), floats(up, size), floats(target, size)
    for i in range(size):
        h[i] = g[i] / (_ONE + exp(-g[i])) * u[i]


@compiled
def silu_mul_back(gate: int, up: int, grad: int, size: int) -> None:
    """Replaces gate and up by their gradients.

    `grad` is the gradient of the output of `silu_mul`.
    """
    g, u, grads = floats(gate, size), floats(up, size), floats(grad, size)
    for i in range(size):
        sigmoid = _ONE / (_ONE + exp(-g[i]))
        activated = g[i] * sigmoid
        grad_up = grads[i] * activated
        g[i] = grads[i] * u[i] * sigmoid * (_ONE + g[i] - activated)
        u[i] = grad_up


@compiled
def gelu_mul(gate: int, up: int, target: int, size: int) -> None:
    """target = gelu(gate) * up, of `size` numbers, by the formula with tanh."""
    g, u, h = floats(gate, size), floats(up, size), floats(target, size)
    for i in range(size):
        inner = _GELU_SLOPE * g[i] * (_ONE + _GELU_CUBE * g[i] * g[i])
        h[i] = g[i] / (_ONE + exp(-inner)) * u[i]


@compiled
def gelu_mul_back(gate: int, up: int, grad: int, size: int) -> None:
    """Replaces gate and up by their gradients.

    `grad` is the gradient of the output of `gelu_mul`.
    """
    g, u, grads = floats(gate, size), floats(up, size), floats(grad, size)
    for i in range(size):
        square = _GELU_CUBE * g[i] * g[i]
        share = _ONE / (_ONE + exp(-_GELU_SLOPE * g[i] * (_ONE + square)))
        activated = g[i] * share
        grad_up = grads[i] * activated
        slope = share + activated * (_ONE - share) * _GELU_SLOPE * (_ONE + _THREE * square)
        g[i] = grads[i] * u[i] * slope
        u[i] = grad_up


@compiled
def rotate(address: int, cos: int, sin: int, size: int) -> None:
    """Rotary embedding of one head [size], in place.

    Number i of the first half and number i of the second are rotated by the same angle.
    """
    half = size // 2
    x, c, s = floats(address, size), floats(cos, size), floats(sin, size)
    for i in range(half):
        low, high = x[i], x[i + half]
        x[i] = low * c[i] - high * s[i]
        x[i + half] = high * c[i + half] + low * s[i + half]


@compiled
def rotate_back(address: int, cos: int, sin: int, size: int) -> None:
    """Replaces the gradient of the output of `rotate` by that of its input."""
    half = size // 2
    x, c, s = floats(address, size), floats(cos, size), floats(sin, size)
    for i in range(half):
        low, high = x[i], x[i + half]
        x[i] = low * c[i] + high * s[i + half]
        x[i + half] = high * c[i + half] - low * s[i]


@compiled
def rotate_neighbours(address: int, cos: int, sin: int, size: int) -> None:
    """As `rotate`, where numbers 2i and 2i + 1 are rotated by the same angle."""
    x, c, s = floats(address, size), floats(cos, size), floats(sin, size)
    for i in range(size // 2):
        low, high = x[2 * i], x[2 * i + 1]
        x[2 * i] = low * c[i] - high * s[i]
        x[2 * i + 1] = high * c[i] + low * s[i]


@compiled
def rotate_neighbours_back(address: int, cos: int, sin: int, size: int) -> None:
    """Replaces the gradient of the output of `rotate_neighbours` by that of its input."""
    x, c, s = floats(address, size), floats(cos, size), floats(sin, size)
    for i in range(size // 2):
        low, high = x[2 * i], x[2 * i + 1]
        x[2 * i] = low * c[i] + high * s[i]
        x[2 * i + 1] = high * c[i] - low * s[i]


@compiled
def softmax(scores: NDArray[numpy.float32], seen: int) -> None:
    """Softmax of the first `seen` scores, in place; the others become 0."""
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
