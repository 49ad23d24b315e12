"""How many processors this process may use."""

import math
import os
from pathlib import Path

from tunesmith.system.cgroups import ROOT, cpu_quota


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
