"""Memory asked for ahead of its use."""

import sys
from pathlib import Path

import pytest

from tunesmith.models.pages import Reserve

MB = 1 << 20


def resident() -> int:
    status = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_reserve_is_in_memory_until_it_is_left() -> None:
    before = resident()
    reserve = Reserve(64 * MB)
    reserve._thread.join()
    assert resident() - before > 60 * MB
    reserve.leave()
    assert reserve._tensor is None


def test_a_reserve_of_nothing() -> None:
    Reserve(0).leave()
