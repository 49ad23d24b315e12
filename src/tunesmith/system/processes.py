"""Other processes of this machine.

Which one it was, whether it is stopped, and what was short when it could not start.

Where the system does not tell (Linux does, in /proc), a process is neither recognized nor stopped.
"""

import errno
import os
import signal
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tunesmith.system.disk import FULL_WORDS, is_full

STOPPED_SECONDS = 60.0  # a process that was stopped (SIGSTOP) for so long will not go on by itself
SHORTAGES = (errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
SHORTAGE_WORDS = ("can't start new thread", *(os.strerror(number) for number in SHORTAGES), *FULL_WORDS)


def identity(pid: int) -> str | None:
    """A process as no other one can be: machine, boot, id and start.

    None where it cannot be told.
    """
    stat = _stat(pid)
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return None if stat is None else f"{socket.gethostname()} {boot} {pid} {stat[19]}"
    return None


def kill_group(known_as: str) -> bool:
    """Kill the process that `identity` named, with its group if it leads one.

    False when it is not here.
    """
    words = known_as.split()
    if len(words) != 4 or not words[2].isdigit() or identity(int(words[2])) != known_as:
        return False
    pid = int(words[2])
    with suppress(ProcessLookupError, PermissionError):
        kill = os.killpg if os.getpgid(pid) == pid else os.kill
        kill(pid, signal.SIGKILL)
        return True
    return False


@dataclass(slots=True)
class StopWatch:
    """Notices that a process has been stopped for `STOPPED_SECONDS`."""

    pid: int
    _since: float | None = None

    def hangs(self) -> bool:
        """To be asked again and again."""
        stat = _stat(self.pid)
        if stat is None or stat[0] not in "Tt":
            self._since = None
            return False
        self._since = self._since or time.monotonic()
        return time.monotonic() - self._since > STOPPED_SECONDS


def end_on_hangup() -> None:
    """Take SIGHUP, of a terminal that was closed, as SIGTERM.

    `nohup` has it ignored, and that stays.
    Raises ValueError outside the main thread.
    """
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda number, frame: os.kill(os.getpid(), signal.SIGTERM))


def is_shortage(error: BaseException) -> bool:
    """True for what may work another time.

    There was no room for a process, a thread, a file, memory, or bytes on the disk.
    """
    if is_full(error):
        return True
    if isinstance(error, OSError):
        return error.errno in SHORTAGES
    return isinstance(error, RuntimeError) and tells_shortage(str(error))


def tells_shortage(text: str) -> bool:
    """True if the words are those of a shortage, as another process wrote them."""
    return any(words in text for words in SHORTAGE_WORDS)


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat from the state on."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (OSError, UnicodeDecodeError):
        return None
    return text.rpartition(")")[2].split()
