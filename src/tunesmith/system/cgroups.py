"""The limits of Linux control groups, which containers and systemd set.

Versions 1 and 2, also side by side. A limit of any group above the process holds for the process too, so the smallest
of all of them counts. Formats: Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst of the Linux kernel.

What is not covered: CPU shares and weights (they only matter when others want the processors), `memory.high` and swap.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
MEMBERSHIP = "proc/self/cgroup"
MOUNT = "sys/fs/cgroup"
MAX_DIGITS = 20  # of an unsigned number of 64 bits


@dataclass(frozen=True, slots=True)
class MemoryGroup:
    """Bytes that a group may take and has taken.

    Page cache that the kernel can drop at once is not counted as taken.
    """

    limit: int
    used: int


def cpu_quota(root: Path = ROOT) -> float:
    """Processors' worth of time this process may use; infinity without a limit.

    `root`: the directory that holds `proc` and `sys`.
    """
    return min(map(_quota, _groups(root, "cpu")), default=math.inf)


def memory_groups(root: Path = ROOT) -> list[MemoryGroup]:
    """The groups of this process that have a memory limit, the innermost first."""
    return [group for directory in _groups(root, "memory") if (group := _memory(directory)) is not None]


def memory_kills(root: Path = ROOT) -> int | None:
    """How many processes of this group the kernel has killed for want of memory.

    The innermost group counts. None where the group does not say.
    """
    for directory in _groups(root, "memory"):
        for name in ("memory.events", "memory.oom_control"):  # version 2, version 1
            text = _text(directory / name)
            if "oom_kill " in text:
                return _field(directory / name, "oom_kill")
    return None


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The directories of this process's groups, each followed by the groups above it."""
    mount = root / MOUNT
    for line in _text(root / MEMBERSHIP).splitlines():
        hierarchy, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if controller in names.split(","):
            yield from _upwards(mount / controller if _is_folder(mount / controller) else mount / names, path)
        elif hierarchy == "0" and not names:  # version 2, which hybrid systems mount one level deeper
            yield from _upwards(mount / "unified" if _is_folder(mount / "unified") else mount, path)


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    """From the group at `path` to the mount point, as far as the process can see them.

    A container may see the host's path in /proc but only its own group below the mount point.
    """
    parts = [part for part in path.split("/") if part]
    if ".." in parts:  # the process was moved out of its cgroup namespace
        parts = []
    for count in range(len(parts), -1, -1):
        directory = mount.joinpath(*parts[:count])
        if _is_folder(directory):
            yield directory


def _quota(group: Path) -> float:
    quota, _, period = _text(group / "cpu.max").partition(" ")  # version 2: "150000 100000" or "max 100000"
    if not quota:
        quota, period = _text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us")  # -1: no limit
    time, of = whole_number(quota), whole_number(period)
    return time / of if time is not None and of else math.inf


def _memory(group: Path) -> MemoryGroup | None:
    for limit_file, used_file, dropped in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        limit, used = whole_number(_text(group / limit_file)), whole_number(_text(group / used_file))
        if limit is not None:
            cached = _field(group / "memory.stat", dropped)
            return MemoryGroup(limit, max(0, (used or 0) - cached))
    return None


def _field(path: Path, name: str) -> int:
    values = (line.split() for line in _text(path).splitlines())
    return next((whole_number(words[1]) or 0 for words in values if len(words) == 2 and words[0] == name), 0)


def whole_number(text: str) -> int | None:
    """The number in a file of the kernel; None for "max", "-1" and other text."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS else None


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112  # Path.is_dir raises where a folder above may not be searched


def _text(path: Path) -> str:
    """The file's text without the last newline; "" where there is none or it may not be read."""
    try:
        return os.fsdecode(path.read_bytes()).strip()  # a group's name may have any bytes
    except (OSError, ValueError):
        return ""
