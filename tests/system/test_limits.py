"""Memory and processors within control groups, read from files as version 1 and version 2 write them."""

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tunesmith.system.cgroups import cpu_quota
from tunesmith.system.cpu import affinity_count, cpu_count
from tunesmith.system.memory import free_memory, out_of_memory_kills, peak_resident, total_memory

GIB = 1 << 30
NO_LIMIT_V1 = "9223372036854771712\n"
V1 = "9:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n"
MEMORY_V1, CPU_V1 = "sys/fs/cgroup/memory", "sys/fs/cgroup/cpu"

Machine = Callable[[dict[str, str]], Path]


def memory_v2(path: str, limit: str, used: int, cached: int = 0) -> dict[str, str]:
    folder = f"sys/fs/cgroup{path}"
    return {
        f"{folder}/memory.max": f"{limit}\n",
        f"{folder}/memory.current": f"{used}\n",
        f"{folder}/memory.stat": f"anon 5\nactive_file 7\ninactive_file {cached}\n",
    }


def memory_v1(path: str, limit: str, used: int, cached: int = 0) -> dict[str, str]:
    folder = f"{MEMORY_V1}{path}"
    return {
        f"{folder}/memory.limit_in_bytes": f"{limit}\n",
        f"{folder}/memory.usage_in_bytes": f"{used}\n",
        f"{folder}/memory.stat": f"inactive_file 3\ntotal_inactive_file {cached}\n",
    }


def test_without_groups_all_of_the_machine_counts(machine: Machine) -> None:
    root = machine({})
    assert (total_memory(root), free_memory(root)) == (64 * GIB, 40 * GIB)
    assert cpu_quota(root) == math.inf
    assert cpu_count(root) == affinity_count()


@pytest.mark.parametrize(
    "files",
    [
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n", **memory_v2("", "max", 8 * GIB)},
        {
            "proc/self/cgroup": V1,
            f"{CPU_V1}/docker/abc/cpu.cfs_quota_us": "-1\n",
            f"{CPU_V1}/docker/abc/cpu.cfs_period_us": "100000\n",
            **memory_v1("/docker/abc", NO_LIMIT_V1, 8 * GIB),
        },
        {"proc/self/cgroup": "0::/user.slice/session-1.scope\n"},  # nothing of it can be seen
    ],
    ids=["v2", "v1", "hidden"],
)
def test_groups_without_a_limit_leave_the_machine_as_it_is(files: dict[str, str], machine: Machine) -> None:
    root = machine(files)
    assert (total_memory(root), free_memory(root)) == (64 * GIB, 40 * GIB)
    assert cpu_quota(root) == math.inf
    assert cpu_count(root) == affinity_count()


def test_a_container_of_version_2_has_its_limits(machine: Machine) -> None:
    files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}
    root = machine(files | memory_v2("", str(4 * GIB), 3 * GIB, cached=GIB))
    assert total_memory(root) == 4 * GIB
    assert free_memory(root) == 2 * GIB  # the kernel drops cached pages before it refuses memory
    assert cpu_quota(root) == 0.5
    assert cpu_count(root) == 1


def test_a_container_of_version_1_has_its_limits(machine: Machine) -> None:
    files = {
        "proc/self/cgroup": V1,
        f"{CPU_V1}/docker/abc/cpu.cfs_quota_us": "50000\n",
        f"{CPU_V1}/docker/abc/cpu.cfs_period_us": "50000\n",
    }
    root = machine(files | memory_v1("/docker/abc", str(4 * GIB), 3 * GIB, cached=GIB))
    assert (total_memory(root), free_memory(root)) == (4 * GIB, 2 * GIB)
    assert cpu_count(root) == 1


def test_version_1_is_found_where_only_the_containers_own_group_is_mounted(machine: Machine) -> None:
    """Docker without a cgroup namespace: /proc has the host's path, the mount point the container's group."""
    files = {
        "proc/self/cgroup": V1,
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "100000\n",  # without the usual link from `cpu`
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    }
    root = machine(files | memory_v1("", str(4 * GIB), GIB))
    assert (total_memory(root), free_memory(root)) == (4 * GIB, 3 * GIB)
    assert cpu_quota(root) == 1.0


def test_a_group_above_limits_those_within(machine: Machine) -> None:
    files = {
        "proc/self/cgroup": "0::/pod/container\n",
        "sys/fs/cgroup/pod/cpu.max": "150000 100000\n",
        "sys/fs/cgroup/pod/container/cpu.max": "400000 100000\n",
    }
    pod, container = memory_v2("/pod", str(8 * GIB), 7 * GIB), memory_v2("/pod/container", str(16 * GIB), GIB)
    root = machine(files | pod | container)
    assert total_memory(root) == 8 * GIB
    assert free_memory(root) == GIB
    assert cpu_quota(root) == 1.5


def test_in_a_hybrid_the_group_with_the_controller_counts(machine: Machine) -> None:
    files = {"proc/self/cgroup": "4:memory:/job\n0::/job\n", "sys/fs/cgroup/unified/job/cpu.max": "25000 100000\n"}
    root = machine(files | memory_v1("/job", str(2 * GIB), GIB))
    assert (total_memory(root), free_memory(root)) == (2 * GIB, GIB)
    assert cpu_quota(root) == 0.25


def test_a_process_outside_its_namespace_is_limited_by_what_is_mounted(machine: Machine) -> None:
    elsewhere = memory_v2("/../other", str(GIB), 0)  # another file system's, no group
    root = machine({"proc/self/cgroup": "0::/../other\n"} | elsewhere | memory_v2("", str(4 * GIB), GIB))
    assert total_memory(root) == 4 * GIB


def test_a_fraction_of_a_processor_is_rounded_up(machine: Machine) -> None:
    root = machine({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "110000 100000\n"})
    assert cpu_count(root) == min(2, affinity_count())


def test_a_quota_beyond_the_machine_adds_no_processors(machine: Machine) -> None:
    root = machine({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "99900000 100000\n"})
    assert cpu_count(root) == affinity_count()


def test_a_group_above_its_limit_has_nothing_free(machine: Machine) -> None:
    root = machine({"proc/self/cgroup": "0::/\n"} | memory_v2("", str(GIB), 2 * GIB))
    assert free_memory(root) == 0


def test_the_machine_counts_where_it_has_less_than_its_groups(machine: Machine) -> None:
    root = machine({"proc/self/cgroup": "0::/\n"} | memory_v2("", str(100 * GIB), GIB))
    assert (total_memory(root), free_memory(root)) == (64 * GIB, 40 * GIB)


def test_a_system_without_proc_counts_half_of_its_memory_as_free(tmp_path: Path) -> None:
    assert free_memory(tmp_path) == total_memory(tmp_path) // 2 > 1 << 26


def test_this_machine_has_processors_and_memory() -> None:
    assert 1 <= cpu_count() <= affinity_count()
    assert 1 << 20 < free_memory() <= total_memory() < 1 << 45


def test_a_group_whose_name_is_not_utf8_has_its_limits(machine: Machine) -> None:
    root = machine({})
    group = os.fsencode(root) + b"/sys/fs/cgroup/job-\xff"
    os.makedirs(group)  # noqa: PTH103  # a name of bytes
    with open(group + b"/memory.max", "w") as file:  # noqa: PTH123
        file.write(str(4 * GIB))
    (root / "proc/self").mkdir()
    (root / "proc/self/cgroup").write_bytes(b"0::/job-\xff\n")
    assert total_memory(root) == 4 * GIB


@pytest.mark.parametrize("text", ["", "abc", "-5", "\u00b2", "9" * 5000, "max", "1.5"])
def test_what_is_no_number_is_no_limit(text: str, machine: Machine) -> None:
    files = {
        "proc/self/cgroup": "0::/\n",
        "sys/fs/cgroup/cpu.max": f"{text} 100000\n",
        "sys/fs/cgroup/memory.max": f"{text}\n",
    }
    root = machine(files)
    assert (total_memory(root), free_memory(root)) == (64 * GIB, 40 * GIB)
    assert cpu_quota(root) == math.inf
    (root / "sys/fs/cgroup/cpu.max").write_text(f"100000 {text}\n")
    assert cpu_quota(root) == math.inf
    (root / "proc/meminfo").write_text(f"MemTotal: {text} kB\nMemAvailable:\n")
    assert 1 << 26 < total_memory(root) < 1 << 45
    assert free_memory(root) == total_memory(root) // 2


def test_a_group_with_a_path_too_long_for_the_system_is_skipped(machine: Machine) -> None:
    root = machine({"proc/self/cgroup": "0::/" + "a/" * 3000} | memory_v2("", str(4 * GIB), GIB))
    assert total_memory(root) == 4 * GIB


def test_groups_that_may_not_be_read_are_skipped(machine: Machine) -> None:
    root = machine({"proc/self/cgroup": "0::/a/b\n"} | memory_v2("/a/b", str(4 * GIB), GIB))
    (root / "sys/fs/cgroup/a").chmod(0)
    assert _total_without_rights(root) == str(64 * GIB)
    (root / "sys/fs/cgroup/a").chmod(0o755)
    assert _total_without_rights(root) == str(4 * GIB)


def _total_without_rights(root: Path) -> str:
    """In a process that gives up its capabilities, as the modes of a file system do not hold for root."""
    code = (
        "import ctypes, pathlib, sys\n"
        "from tunesmith.system import memory\n"
        "header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()\n"  # <linux/capability.h>
        "assert ctypes.CDLL(None).capset(header, none) == 0\n"
        "print(memory.total_memory(pathlib.Path(sys.argv[1])))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(root)], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("files", "kills"),
    [
        ({"proc/vmstat": "nr_free_pages 5\noom_kill 3\n"}, 3),
        ({"proc/vmstat": "nr_free_pages 5\n"}, 0),  # a kernel that does not say
        (
            {
                "proc/self/cgroup": "0::/pod\n",
                "sys/fs/cgroup/pod/memory.events": "low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 4\n",
                "proc/vmstat": "oom_kill 30\n",  # of other groups too
            },
            1,
        ),
        (
            {
                "proc/self/cgroup": V1,
                f"{MEMORY_V1}/docker/abc/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
            },
            2,
        ),
    ],
    ids=["machine", "silent", "v2", "v1"],
)
def test_kills_for_want_of_memory_are_counted_where_the_kernel_tells(
    machine: Machine, files: dict[str, str], kills: int
) -> None:
    assert out_of_memory_kills(machine(files)) == kills


def test_a_peak_is_of_the_process_and_not_of_the_one_that_started_it() -> None:
    ballast = bytearray(os.urandom(1)) * (300 << 20)
    code = "from tunesmith.system.memory import peak_resident\nprint(peak_resident())"
    child = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert child < 100 << 20 < len(ballast) < peak_resident()


def test_a_system_that_tells_no_peak_is_asked_otherwise(tmp_path: Path) -> None:
    """Before or after the other: a peak does not fall."""
    least = peak_resident() if sys.platform == "linux" else 1 << 20
    assert peak_resident(tmp_path) >= 0.9 * least
