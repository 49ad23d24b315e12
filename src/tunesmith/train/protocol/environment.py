"""Environment variables that a trainer is started with.

The C library and OpenMP read them before any Python runs, so whoever starts a trainer passes them; one that is started
by hand starts itself again with them. Imports no torch.
"""

import os
import sys
from collections.abc import Mapping

from tunesmith.system.python import module_command, without_keys

TRAINER = "tunesmith.train"
MEETING_FILE = "RANKS_FILE"  # names a file, of one machine's ranks, through which they meet instead of a port

# Freed memory is kept and reused, in pages of 2 MB where the kernel gives them: a step frees and needs about a
# gigabyte. Measured on one thread, support rows: 630 -> 680 useful tokens/s, peak memory 1.87 -> 1.97 GB.
MALLOC = {
    "glibc.malloc.hugetlb": "1",
    "glibc.malloc.mmap_max": "0",
    "glibc.malloc.trim_threshold": str(1 << 36),
    "glibc.malloc.top_pad": str(1 << 26),
}

# Rounds that a thread spins before it sleeps while it waits for the others. Where something else is busy on the same
# cores, spinning takes the time that the others need: weather rows beside one busy process, 71 tokens/s with 3,000
# rounds, 39 with 10,000, 20 with 30,000. Alone on the machine these did not differ beyond the noise.
SPINS = "3000"


def trainer_environment(given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Adds what a trainer needs to `given` (default: os.environ); what is set stays.

    Keys and passwords are left out: a trainer calls nobody.
    """
    given = without_keys(os.environ if given is None else given)
    tunables = ":".join(f"{name}={value}" for name, value in MALLOC.items())
    return {"GLIBC_TUNABLES": tunables, "GOMP_SPINCOUNT": SPINS, **given}


def restart_with_environment(arguments: list[str]) -> None:
    """Starts a `python -m tunesmith.train` again where the environment is not set.

    Anything else goes on: in a launcher's process a new start would lose what the launcher holds for it.
    """
    wanted = trainer_environment()
    options = [part for part in sys.orig_argv[1:] if part not in ("-P", "-u")]  # torchrun starts its ranks with -u
    by_hand = options[:2] == ["-m", TRAINER]
    if by_hand and sys.platform == "linux" and wanted != dict(os.environ):
        os.execve(sys.executable, module_command(TRAINER, *arguments), wanted)  # noqa: S606
