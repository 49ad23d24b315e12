"""What was measured once and kept is not believed when the disk has changed it; it is measured again."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from tunesmith.estimate.speed import Benchmark, read_benchmark, write_benchmark
from tunesmith.serve.local.fp16_check import Finding, read_width, write_finding

BENCHMARK = Benchmark("base", "cpu", 5125.0, 0.5, 10.0, 1_000_000, 1000.0)


def keep_finding(path: Path) -> object:
    write_finding(path, Finding(0.5125, 0.0))
    return "float32"


def keep_benchmark(path: Path) -> object:
    write_benchmark(path, BENCHMARK)
    return BENCHMARK


@pytest.mark.parametrize(
    ("keep", "read"), [(keep_finding, read_width), (keep_benchmark, read_benchmark)], ids=["fp16", "speed"]
)
def test_a_changed_digit_has_it_measured_again(
    tmp_path: Path,
    keep: Callable[[Path], object],
    read: Callable[[Path], object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "kept" / "one.json"
    kept = keep(path)
    assert read(path) == kept
    path.write_bytes(path.read_bytes().replace(b"5125", b"9925"))
    with caplog.at_level(logging.WARNING):
        assert read(path) is None
    assert "is damaged, as after a power cut; it is made again" in caplog.text
