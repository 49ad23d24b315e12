"""The processors that this process may use: how many, and of what kind."""

import math
import os
import platform
import re
import sys
from functools import cache
from pathlib import Path

from tunesmith.system.cgroups import ROOT, cpu_quota

CPU_INFO = Path("/proc/cpuinfo")


@cache
def processor() -> tuple[str, frozenset[str]]:
    """Its name, and what it can by Linux's names: nothing on another system."""
    text = CPU_INFO.read_text("utf-8", errors="replace") if CPU_INFO.is_file() else ""
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    fallback = platform.processor() or sys.platform
    return name[1].strip() if name else fallback, frozenset(flags[1].split() if flags else ())


def cpu_count(root: Path = ROOT) -> int:
    """The processors that this process may use, at least 1.

    Those of its affinity, or fewer where its control groups have a quota.

    A quota is rounded up: with 1.5 processors' worth of time, a second thread still gains half of one. `root`: the
    directory that holds `proc` and `sys`.
    """
    quota = cpu_quota(root)
    return max(1, affinity_count() if math.isinf(quota) else min(affinity_count(), math.ceil(quota)))


def affinity_count() -> int:
    """Processors that the system may schedule this process on, whatever a quota says."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS has no affinity
