"""`tunesmith estimate`: time, memory and the machine's own cost, from figures that were measured once."""

from pathlib import Path

import pytest
from tests.cli.conftest import Tunesmith

from tunesmith.data.speed import Benchmark, benchmark_path, write_benchmark
from tunesmith.train.measure import hardware_name

KNOWN = Benchmark("smollm2-135m-instruct", f"{hardware_name()}, rank 16", 1000.0, 0.5, 10.0, 500_000_000, 1_000_000.0)


@pytest.fixture
def measured(base_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures of this machine in a cache of the test's own; the base stays where it is."""
    cache = tmp_path / "cache"
    cache.mkdir()
    for part in base_dir.parents[1].iterdir():
        (cache / part.name).symlink_to(part)
    monkeypatch.setenv("TUNESMITH_CACHE_DIR", str(cache))
    write_benchmark(benchmark_path(cache, KNOWN.base, KNOWN.hardware), KNOWN)


@pytest.mark.usefixtures("measured")
def test_time_memory_and_cost_come_from_the_measurement(tunesmith: Tunesmith, jokes: Path) -> None:
    found = tunesmith("estimate", jokes, "--json", "--hourly-cost", 3.6).json
    assert isinstance(found, dict)
    assert found["seconds"] == pytest.approx(10 + found["trained_tokens"] / 1000 + found["total_steps"] * 0.5)
    assert found["local_cost"] == pytest.approx(found["seconds"] / 1000)
    assert found["peak_memory_bytes"] > 500_000_000
    shown = tunesmith("estimate", jokes, "--hourly-cost", 3.6)
    assert "on this machine" in shown.out
    assert "of this machine's time" in shown.out


def test_without_a_measurement_the_way_to_one_is_shown(
    tunesmith: Tunesmith, jokes: Path, base_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    for part in base_dir.parents[1].iterdir():
        if part.name != "benchmarks":
            (cache / part.name).symlink_to(part)
    monkeypatch.setenv("TUNESMITH_CACHE_DIR", str(cache))
    shown = tunesmith("estimate", jokes)
    assert "tunesmith estimate --measure" in shown.out
