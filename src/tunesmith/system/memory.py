"""The memory this process may use, and how it is told that there is no more."""

import os
import sys
from pathlib import Path

from tunesmith.system.cgroups import ROOT, memory_groups, memory_kills, whole_number

UNKNOWN_MACHINE = 4 << 30  # bytes, assumed where the system does not say
# What torch and CUDA's libraries say in a RuntimeError; torch's own class for a GPU is one too, and no MemoryError.
NO_MEMORY_CLASS = "OutOfMemoryError"
NO_MEMORY_WORDS = ("out of memory", "not enough memory", "can't allocate memory", "status_alloc_failed")


def total_memory(root: Path = ROOT) -> int:
    """Bytes of physical memory, or the limit of a control group where that is less.

    `root`: the directory that holds `proc` and `sys`.
    """
    machine = _meminfo(root, "MemTotal") or _physical_memory()
    return min([machine, *(group.limit for group in memory_groups(root))])


def free_memory(root: Path = ROOT) -> int:
    """Bytes this process may still take without swapping, at least 0.

    Half of all memory on systems that do not say, such as macOS.
    """
    machine = _meminfo(root, "MemAvailable")
    if machine is None:  # not Linux
        machine = (_meminfo(root, "MemTotal") or _physical_memory()) // 2
    return max(0, min([machine, *(group.limit - group.used for group in memory_groups(root))]))


def peak_resident(root: Path = ROOT) -> int:
    """The most memory that this process has held, bytes.

    Pages of mapped files count while they are in it.

    Not what `getrusage` says on Linux: that begins with the memory of the process that started this one.
    """
    peak = _kibibytes(root / "proc/self/status", "VmHWM")
    if peak is not None:
        return peak
    import resource

    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024  # others count in KiB


def out_of_memory_kills(root: Path = ROOT) -> int:
    """How often the kernel has killed a process for want of memory.

    In this one's group, else on the whole machine; 0 where neither says; only its growth means something.
    """
    kills = memory_kills(root)
    if kills is not None:
        return kills
    try:
        lines = (root / "proc/vmstat").read_text("utf-8", "replace").splitlines()
    except OSError:
        return 0
    words = (line.split() for line in lines)
    return next((whole_number(pair[1]) or 0 for pair in words if len(pair) == 2 and pair[0] == "oom_kill"), 0)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that there was not enough memory.

    Of the machine or of a GPU. By class and words: torch need not be imported.
    """
    if isinstance(error, MemoryError) or any(kind.__name__ == NO_MEMORY_CLASS for kind in type(error).__mro__):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in NO_MEMORY_WORDS)


def _meminfo(root: Path, name: str) -> int | None:
    return _kibibytes(root / "proc/meminfo", name)


def _kibibytes(file: Path, name: str) -> int | None:
    """The bytes in the line `name` of such a file."""
    try:
        lines = file.read_text("utf-8", "replace").splitlines()
    except OSError:
        return None
    fields = (line.partition(":") for line in lines)
    kibibytes = next((whole_number(value.removesuffix("kB")) for field, _, value in fields if field == name), None)
    return None if kibibytes is None else kibibytes * 1024


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return UNKNOWN_MACHINE
