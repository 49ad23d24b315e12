"""Transposing, the bits of numbers, and counters."""

import numpy
import pytest
from tests.kernels.reference import normal

from tunesmith.kernels.compiler import compiled
from tunesmith.kernels.elementwise import exp
from tunesmith.kernels.intrinsics import atomic_add, atomic_read, atomic_write, from_bits
from tunesmith.kernels.vectors import LANES, Number, transposer

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
