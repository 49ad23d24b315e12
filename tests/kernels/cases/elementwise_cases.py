"""Cases of the functions of rows of numbers, of products with panels, and of vectors' building blocks."""

from collections.abc import Callable
from functools import partial

import numpy
from tests.kernels.reference import (
    EPS,
    EVEN_REASON,
    EVEN_SIZES,
    KINDS,
    Floats,
    Pairs,
    capped,
    gelu,
    gradient,
    normal,
    reference,
    rms_norm,
    rotated,
    rotated_neighbours,
    silu,
    softmax,
    stored,
    to_panels,
    wide,
)

from tunesmith.kernels import elementwise, multiply, pieces
from tunesmith.kernels.vectors import LANES


def at(array: Floats) -> int:
    return array.ctypes.data


@reference(elementwise.exp, tolerance=1e-6)
def exp_case(size: int) -> Pairs:
    """Relative errors, number by number."""
    x = numpy.linspace(-87, 88, size, dtype=numpy.float32)
    got = numpy.array([elementwise.exp(number) for number in x])
    return [(wide(got) / numpy.exp(wide(x)), numpy.ones(size))]


@reference(elementwise.silu_mul_in_place)
def silu_mul_in_place_case(size: int) -> Pairs:
    gate, up = normal(numpy.random.default_rng(size), 2, size) * 4
    expected = silu(wide(gate)) * up
    elementwise.silu_mul_in_place(gate, up)
    return [(gate, expected)]


@reference(elementwise.gelu_mul_in_place)
def gelu_mul_in_place_case(size: int) -> Pairs:
    """Also where the gate is shut, and the exponential at its bound."""
    gate, up = normal(numpy.random.default_rng(size), 2, size) * 4
    gate[-1] = -30 if size > 1 else gate[-1]
    expected = gelu(wide(gate)) * up
    elementwise.gelu_mul_in_place(gate, up)
    return [(gate, expected)]


@reference(elementwise.soft_cap)
def soft_cap_case(size: int) -> Pairs:
    """Small numbers, which stay nearly as they are, and such as become the cap."""
    x = normal(numpy.random.default_rng(size), size) * 30
    x[0] = -1e4
    expected = capped(wide(x), 50.0)
    elementwise.soft_cap(x, numpy.float32(50.0))
    return [(x, expected)]


@reference(elementwise.silu_mul)
def silu_mul_case(size: int) -> Pairs:
    gate, up, target = normal(numpy.random.default_rng(size), 3, size) * 4
    elementwise.silu_mul(at(gate), at(up), at(target), size)
    return [(target, silu(wide(gate)) * up)]


@reference(elementwise.silu_mul_back)
def silu_mul_back_case(size: int) -> Pairs:
    gate, up, grad = normal(numpy.random.default_rng(size), 3, size) * 4
    by_gate = gradient(lambda x: silu(x) * up, gate, grad)
    by_up = gradient(lambda x: silu(wide(gate)) * x, up, grad)
    elementwise.silu_mul_back(at(gate), at(up), at(grad), size)
    return [(gate, by_gate), (up, by_up)]


@reference(elementwise.gelu_mul)
def gelu_mul_case(size: int) -> Pairs:
    gate, up, target = normal(numpy.random.default_rng(size), 3, size) * 4
    elementwise.gelu_mul(at(gate), at(up), at(target), size)
    return [(target, gelu(wide(gate)) * up)]


@reference(elementwise.gelu_mul_back)
def gelu_mul_back_case(size: int) -> Pairs:
    """Also where the gate is shut, and the exponential at its bound."""
    gate, up, grad = normal(numpy.random.default_rng(size), 3, size) * 4
    gate[-1] = -30 if size > 1 else gate[-1]
    by_gate = gradient(lambda x: gelu(x) * up, gate, grad)
    by_up = gradient(lambda x: gelu(wide(gate)) * x, up, grad)
    elementwise.gelu_mul_back(at(gate), at(up), at(grad), size)
    return [(gate, by_gate), (up, by_up)]


@reference(elementwise.rms_norm)
def rms_norm_case(size: int) -> Pairs:
    source, weight, target = normal(numpy.random.default_rng(size), 3, size)
    expected = rms_norm(wide(source), weight)
    elementwise.rms_norm(at(source), at(target), at(weight), size, EPS)
    elementwise.rms_norm(at(source), at(source), at(weight), size, EPS)
    return [(target, expected), (source, expected)]


def norm_gradient(size: int) -> tuple[Floats, Floats, Floats, Floats]:
    x, weight, grad = normal(numpy.random.default_rng(size), 3, size)
    x += numpy.float32(1.0)  # the gradient of a single number of either sign is nearly 0
    return x, weight, grad, gradient(partial(rms_norm, weight=wide(weight)), x, grad)


@reference(elementwise.rms_norm_back, tolerance=1e-4)
def rms_norm_back_case(size: int) -> Pairs:
    x, weight, grad, expected = norm_gradient(size)
    total = numpy.full(size, 3.0, numpy.float32)
    elementwise.rms_norm_back(at(x), at(grad), at(total), at(weight), size, EPS)
    return [(total, expected + 3.0)]


@reference(elementwise.rms_norm_back_in_place, tolerance=1e-4)
def rms_norm_back_in_place_case(size: int) -> Pairs:
    x, weight, grad, expected = norm_gradient(size)
    elementwise.rms_norm_back_in_place(at(x), at(grad), at(weight), size, EPS)
    return [(grad + numpy.float32(3.0), expected + 3.0)]


@reference(elementwise.rotate, sizes=EVEN_SIZES, reason=EVEN_REASON)
def rotate_case(size: int) -> Pairs:
    return rotation(elementwise.rotate, lambda x, cos, sin, _: rotated(wide(x), cos, sin), size)


@reference(elementwise.rotate_back, sizes=EVEN_SIZES, reason=EVEN_REASON)
def rotate_back_case(size: int) -> Pairs:
    return rotation(
        elementwise.rotate_back, lambda x, cos, sin, any_x: gradient(partial(rotated, cos=cos, sin=sin), any_x, x), size
    )


@reference(elementwise.rotate_neighbours, sizes=EVEN_SIZES, reason=EVEN_REASON)
def rotate_neighbours_case(size: int) -> Pairs:
    return rotation(elementwise.rotate_neighbours, lambda x, cos, sin, _: rotated_neighbours(wide(x), cos, sin), size)


@reference(elementwise.rotate_neighbours_back, sizes=EVEN_SIZES, reason=EVEN_REASON)
def rotate_neighbours_back_case(size: int) -> Pairs:
    def expected(x: Floats, cos: Floats, sin: Floats, any_x: Floats) -> Floats:
        return gradient(partial(rotated_neighbours, cos=cos, sin=sin), any_x, x)

    return rotation(elementwise.rotate_neighbours_back, expected, size)


def rotation(kernel: Callable[..., None], expected: Callable[..., Floats], size: int) -> Pairs:
    """The sines and cosines of the halves differ, as no model's do, so that a mixed up half is seen."""
    x, any_x, cos, sin = normal(numpy.random.default_rng(size), 4, size)
    wanted = expected(x, cos, sin, any_x)
    kernel(at(x), at(cos), at(sin), size)
    return [(x, wanted)]


@reference(elementwise.softmax)
def softmax_case(size: int) -> Pairs:
    """All scores, and half of them."""
    pairs = []
    for seen in {size, (size + 1) // 2}:
        scores = normal(numpy.random.default_rng(size), size) * 9
        expected = numpy.concatenate([softmax(wide(scores[:seen])), numpy.zeros(size - seen)])
        elementwise.softmax(scores, seen)
        pairs.append((scores, expected))
    return pairs


@reference(pieces.add_bias)
def add_bias_case(size: int) -> Pairs:
    """Rows further apart than they are long: what is between them stays."""
    random = numpy.random.default_rng(size)
    bias, out = normal(random, size), normal(random, 3, size + 2)
    expected = wide(out)
    expected[:, :size] += bias
    pieces.add_bias(at(bias), size, 3, at(out), out.strides[0])
    return [(out, expected)]


def product(kind: int, x: Floats, weight: Floats, addend: Floats | None = None) -> Floats:
    """x @ weight^T (+ addend: a row for all, or one for each) by `multiply`; the weight is stored in this format."""
    w, out = to_panels(weight), numpy.full((len(x), len(weight)), 7.0, numpy.float32)
    length = x.shape[1]
    add, add_stride = (0, 0) if addend is None else (at(addend), addend.strides[0] if addend.ndim == 2 else 0)
    panels, stride = len(w), w.strides[0]
    multiply.multiply(
        int(kind), len(x), at(x), x.strides[0], at(w), stride, length, panels, at(out), out.strides[0], add, add_stride
    )
    return out


@reference(multiply.multiply)
def multiply_case(size: int) -> Pairs:
    """Of `size` rows and sums of `size` numbers, in every format, with each kind of addend."""
    random = numpy.random.default_rng(size)
    x, addend = normal(random, size, size), normal(random, size, 3 * LANES)
    pairs = []
    for kind in KINDS:
        weight = stored(normal(random, 3 * LANES, size), kind)
        exact = wide(x) @ wide(weight).T
        pairs += [(product(kind, x, weight), exact), (product(kind, x, weight, addend), exact + addend)]
        pairs.append((product(kind, x, weight, addend[0]), exact + addend[0]))
    return pairs


@reference(multiply.multiply_float32)
def multiply_float32_case(size: int) -> Pairs:
    """Added to what is there."""
    random = numpy.random.default_rng(size)
    x, weight, out = normal(random, size, size), normal(random, 3 * LANES, size), normal(random, size, 3 * LANES)
    w, stride, expected = to_panels(weight), out.strides[0], wide(x) @ wide(weight).T + out
    here = at(out), stride
    multiply.multiply_float32(size, at(x), x.strides[0], at(w), w.strides[0], size, len(w), *here, *here)
    return [(out, expected)]


@reference(multiply.multiply_strided)
def multiply_strided_case(size: int) -> Pairs:
    """x by rows and by columns, the matrix with numbers between its rows."""
    random = numpy.random.default_rng(size)
    x, matrix = normal(random, size, size), normal(random, size, 3 * LANES + 3)
    outs = [numpy.zeros((size, 3 * LANES), numpy.float32) for _ in range(2)]
    stride, step = x.strides
    for out, (x_stride, x_step) in zip(outs, [(stride, step), (step, stride)], strict=True):
        w, w_step = at(matrix), matrix.strides[0]
        multiply.multiply_strided(size, at(x), x_stride, x_step, w, w_step, size, 3, at(out), out.strides[0], 0, 0)
    exact = wide(matrix[:, : 3 * LANES])
    return [(outs[0], wide(x) @ exact), (outs[1], wide(x).T @ exact)]


@reference(multiply.multiply_columns)
def multiply_columns_case(size: int) -> Pairs:
    """x by columns, the matrix in panels; added to what is there."""
    random = numpy.random.default_rng(size)
    x, weight, out = normal(random, size, size), normal(random, 3 * LANES, size), normal(random, size, 3 * LANES)
    w, expected, (stride, step) = to_panels(weight), wide(x).T @ wide(weight).T + out, x.strides
    here = at(out), out.strides[0]
    multiply.multiply_columns(size, at(x), step, stride, at(w), w.strides[0], size, len(w), *here, *here)
    return [(out, expected)]
