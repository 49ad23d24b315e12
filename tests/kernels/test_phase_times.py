"""The clock of a training step's phases: it counts all of the threads' time, and changes no bit."""

import time

import numpy
from tests.kernels.cases.training_step_case import HIDDEN, MANNERS, Layers
from tests.kernels.reference import normal

from tunesmith.kernels.training.phase_times import PhaseTimes, Share


def test_the_shares_of_a_step_add_up_to_its_time() -> None:
    layers, times = Layers.of(200, MANNERS[0]), PhaseTimes()
    grad = normal(numpy.random.default_rng(0), 200, HIDDEN)
    layers.args.set(times=0)
    expected = layers.step(grad, 2)
    assert not any(times.seconds().values())
    layers.args.set(times=times.address)
    began = time.perf_counter()
    got = layers.step(grad, 2)
    elapsed = time.perf_counter() - began
    for one, other in zip(got, expected, strict=True):
        assert numpy.array_equal(one, other)
    seconds = times.seconds()
    assert {share for share, value in seconds.items() if value > 0} == set(Share)
    assert sum(seconds.values()) < 2 * elapsed  # of two threads
    times.clear()
    assert not any(times.seconds().values())
