"""A directory that stands in for `/`, with the files of /proc and /sys/fs/cgroup that a container shows."""

from collections.abc import Callable
from pathlib import Path

import pytest

GIB = 1 << 30
MEMINFO = f"MemTotal:       {64 * GIB // 1024} kB\nMemFree:          1000 kB\nMemAvailable:   {40 * GIB // 1024} kB\n"


@pytest.fixture
def machine(tmp_path: Path) -> Callable[[dict[str, str]], Path]:
    """Writes files below a root of 64 GiB, 40 of them free: path -> text."""

    def make(files: dict[str, str]) -> Path:
        for name, text in {"proc/meminfo": MEMINFO, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return make
