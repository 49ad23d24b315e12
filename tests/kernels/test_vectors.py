"""Tiles of a product, transposing and the bits of numbers, against numpy."""

from collections.abc import Callable

import numpy
import pytest
from tests.kernels.reference import KINDS, Floats, normal, stored, to_panels, wide

from tunesmith.kernels.compiler import compiled
from tunesmith.kernels.elementwise import exp
from tunesmith.kernels.vectors import (
    LANES,
    Number,
    TileFunction,
    atomic_add,
    atomic_read,
    atomic_write,
    from_bits,
    tile,
    transposer,
)

LENGTHS = (1, LANES - 1, LANES + 1, 3 * LANES + 5)


def as_function(of: TileFunction) -> Callable[..., None]:
    """A tile, as Python can call it."""

    @compiled
    def product(
        x: int,
        xs: int,
        x_step: int,
        w: int,
        ws: int,
        w_step: int,
        length: int,
        out: int,
        outs: int,
        add: int,
        adds: int,
    ) -> None:
        of(x, xs, x_step, w, ws, w_step, length, out, outs, add, adds)

    return product


@pytest.mark.parametrize(("rows", "panels"), [(1, 1), (1, 4), (3, 2), (8, 2)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_tile_is_the_product_with_its_panels(rows: int, panels: int, kind: Number) -> None:
    product = as_function(tile(rows, panels, kind))
    for length in LENGTHS:
        random = numpy.random.default_rng(length)
        x, weight = normal(random, rows, length), normal(random, panels * LANES, length)
        weight = stored(weight, kind)
        addend, out = normal(random, rows, panels * LANES), normal(random, rows, panels * LANES + 3)
        w, exact, beside = to_panels(weight), wide(x) @ wide(weight).T, out[:, panels * LANES :].copy()
        operands = x.ctypes.data, x.strides[0], 0, w.ctypes.data, w.strides[0], 0, length
        target = out.ctypes.data, out.strides[0]
        product(*operands, *target, 0, 0)
        close(out[:, : panels * LANES], exact)
        product(*operands, *target, addend.ctypes.data, addend.strides[0])
        close(out[:, : panels * LANES], exact + addend)
        assert numpy.array_equal(out[:, panels * LANES :], beside)


@pytest.mark.parametrize(("rows", "panels"), [(1, 1), (4, 2)])
def test_a_strided_tile_takes_its_operands_as_they_are(rows: int, panels: int) -> None:
    product = as_function(tile(rows, panels, strided=True))
    for length in LENGTHS:
        random = numpy.random.default_rng(length)
        x, matrix = normal(random, length, rows + 1), normal(random, length, panels * LANES + 3)
        out = numpy.zeros((rows, panels * LANES), numpy.float32)
        operands = x.ctypes.data, 4, x.strides[0], matrix.ctypes.data, LANES * 4, matrix.strides[0], length
        product(*operands, out.ctypes.data, out.strides[0], 0, 0)
        close(out, wide(x[:, :rows]).T @ wide(matrix[:, : panels * LANES]))


def close(got: Floats, exact: Floats) -> None:
    numpy.testing.assert_allclose(got, exact, rtol=1e-5, atol=2e-5)


of_wide = transposer(Number.FLOAT32)


@compiled
def transposed(source: int, stride: int, target: int) -> None:
    of_wide(source, stride, target)


def test_sixteen_rows_are_transposed_from_a_wider_matrix() -> None:
    matrix, out = normal(numpy.random.default_rng(0), LANES, LANES + 5), numpy.zeros((LANES, LANES), numpy.float32)
    transposed(matrix.ctypes.data, matrix.strides[0], out.ctypes.data)
    assert numpy.array_equal(out, matrix[:, :LANES].T)


@compiled
def number_of(bits: int) -> float:
    return from_bits(bits)


@pytest.mark.parametrize("value", [0.0, 1.0, -2.5, 1e-40, numpy.inf])
def test_a_number_is_made_from_its_bits(value: float) -> None:
    assert number_of(int(numpy.float32(value).view(numpy.int32))) == numpy.float32(value)


@compiled
def counted(address: int) -> tuple[int, int, int]:
    before = atomic_add(address, 5)
    between = atomic_read(address)
    atomic_write(address, 40)
    return before, between, atomic_read(address)


def test_counters_are_read_written_and_added_to() -> None:
    counter = numpy.array([2])
    assert counted(counter.ctypes.data) == (2, 7, 40)
    assert counter[0] == 40


def test_exp_ends_at_its_bounds_and_hands_on_nan() -> None:
    """A model whose weights are broken must not answer as if they were not."""
    low, high = numpy.exp(-87.0), numpy.exp(88.0)
    assert exp(numpy.float32(-1e30)) == pytest.approx(low, rel=1e-6)
    assert exp(numpy.float32(1e30)) == pytest.approx(high, rel=1e-6)
    assert numpy.isnan(exp(numpy.float32(numpy.nan)))
