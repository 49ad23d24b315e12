"""Tiles of a product, against numpy."""

from collections.abc import Callable

import numpy
import pytest
from tests.kernels.reference import KINDS, Floats, normal, stored, to_panels, wide

from tunesmith.kernels.compiler import compiled
from tunesmith.kernels.tiles import TileFunction, tile
from tunesmith.kernels.vectors import LANES, Number

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
