"""Every kernel equals numpy in float64, and none is without a case."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import numpy
import pytest
from numba.core.dispatcher import Dispatcher
from tests.kernels.cases import (
    attention_cases,
    block_cases,
    dot_cases,
    elementwise_cases,
    frozen_cases,
    linear_cases,
    serving_cases,
    serving_step_case,
    training_step_case,
)
from tests.kernels.reference import CASES, SIZES, Case

from tunesmith import kernels
from tunesmith.kernels.vectors import LANES

CASE_FILES = (
    attention_cases,
    block_cases,
    dot_cases,
    elementwise_cases,
    frozen_cases,
    linear_cases,
    serving_cases,
    serving_step_case,
    training_step_case,
)  # fill CASES

VIEW, THREADS = "a view of memory", "threads and counters: test_thread_pool.py"
CLOCK = "the clock: test_phase_times.py"
EMULATED = "AMX: dots/test_dots.py compares its bits on an emulated processor"
PLACE = "where something is in memory; a wrong one is seen in all cases of attention"
HELPERS = {  # compute no numbers
    "elementwise.floats": VIEW,
    "elementwise.table": VIEW,
    "widths.panel_bytes": "how long a panel is; every case of a matrix reads by it",
    "widths.number_bytes": "how long a number is; every case of a matrix in 16 bits reads by it",
    "dots.amx.begin_tiles": EMULATED,
    "dots.amx.tiles_panel": EMULATED,
    "pieces.piece_panels": "how work is divided; steps on 1 to 3 threads give the same bits",
    "thread_pool.barrier": THREADS,
    "thread_pool._sleep": THREADS,
    "thread_pool.claim": THREADS,
    "thread_pool.counter_of": THREADS,
    "thread_pool.start_step": THREADS,
    "thread_pool.next_step": THREADS,
    "thread_pool.step_threads": THREADS,
    "thread_pool.initialize": THREADS,
    "thread_pool.close": THREADS,
    "training.heads.qkv_stride": PLACE,
    "training.heads.head_bytes": PLACE,
    "training.heads.copied_bytes": PLACE,
    "training.heads.angle_place": PLACE,
    "training.attention.next_run": PLACE,
    "training.attention.lowest_seen": "which keys are seen; a wrong one is seen in all cases of a window",
    "training.phase_times.thread_times": CLOCK,
    "training.phase_times.lap": CLOCK,
    "training.phase_times.meet": CLOCK,
    "training.phase_times._add": CLOCK,
    "training.phase_times._now": CLOCK,
}


def dispatchers() -> dict[str, Dispatcher]:
    """All compiled functions of the package, by module and name."""
    found = {}
    package = f"{kernels.__name__}."
    for module in pkgutil.walk_packages(kernels.__path__, package):
        path = module.name
        if not path.endswith("__main__"):  # which ends the process
            for name, value in vars(importlib.import_module(path)).items():
                if isinstance(value, Dispatcher) and value.py_func.__module__ == path:
                    found[f"{path.removeprefix(package)}.{name}"] = value
    return found


def called(kernel: Dispatcher) -> Iterator[Dispatcher]:
    """The compiled functions that one names, in its body or around it."""
    function = kernel.py_func
    around = [cell.cell_contents for cell in function.__closure__ or ()]
    named = [function.__globals__.get(name) for name in function.__code__.co_names]
    yield from (value for value in (*named, *around) if isinstance(value, Dispatcher))


def reached(kernel: Dispatcher, seen: set[Dispatcher]) -> set[Dispatcher]:
    """The compiled functions that run where this one does."""
    if kernel not in seen:
        seen.add(kernel)
        for other in called(kernel):
            reached(other, seen)
    return seen


@pytest.mark.drawn(14, by="case")  # each takes a second or two to compile its kernel by itself
@pytest.mark.parametrize(
    ("case", "size"),
    [
        pytest.param(case, size, id=f"{case.run.__name__.removesuffix('_case')}-{size}")
        for case in dict.fromkeys(CASES.values())
        for size in case.sizes
    ],
)
def test_a_kernel_equals_numpy_in_float64(case: Case, size: int) -> None:
    for got, expected in case.run(size):
        assert expected.dtype == numpy.float64
        scale = numpy.abs(expected).max()
        numpy.testing.assert_allclose(got / scale, expected / scale, rtol=0, atol=case.tolerance)


def test_every_kernel_has_a_case_or_runs_within_one() -> None:
    """Functions for others of their module only, whose names begin with _, may run within these."""
    found = dispatchers()
    assert len(found) > 40
    within = {kernel for case in CASES for kernel in reached(case, set())}
    without = {
        name
        for name, kernel in found.items()
        if name not in HELPERS
        and kernel not in CASES
        and not (name.split(".")[-1].startswith("_") and kernel in within)
    }
    assert not without, "no test compares these with numpy: add a case (docs/kernels.md)"


def test_no_helper_is_gone_or_has_a_case() -> None:
    found = dispatchers()
    assert not [name for name in HELPERS if name not in found or found[name] in CASES]


def test_sizes_are_around_panels() -> None:
    assert SIZES == (1, LANES - 1, LANES + 1, 3 * LANES + 5)
    for case in CASES.values():
        assert case.sizes == SIZES or (len(case.sizes) >= 3 and case.reason)


def test_entries_take_arrays_and_no_addresses() -> None:
    """What Python calls; of its arguments only the numbers of threads are integers."""
    entries = {name: kernel for name, kernel in dispatchers().items() if kernel.stats.cache_path}
    assert set(entries) == {
        "rounding.read_panels",
        "rounding.round_panels",
        "serving.packing.pack_squares",
        "serving.step.serving_step",
        "training.step.training_step",
        "thread_pool.initialize",
        "thread_pool.close",
    }
    for kernel in entries.values():
        parameters = inspect.signature(kernel.py_func).parameters
        assert {name for name, parameter in parameters.items() if parameter.annotation is int} <= {"thread", "threads"}
