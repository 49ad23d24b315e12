"""A zygote as the server sees it: it keeps a process ready, for one call.

Messages on the socket between them, each side waiting for the other's: "maps" / "go" (its user ids are mapped),
"ready" or "fault ...", then for each call "MEMORY SECONDS USER" with two pipes, "forked" with a handle of the process,
"ended STATUS".
"""

import os
import select
import signal
import socket
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import tunesmith
from tunesmith.errors import ServerFault
from tunesmith.graders.jail import frames
from tunesmith.graders.jail.frames import Answer
from tunesmith.system.python import module_command

START_SECONDS = 60.0  # of a zygote; it takes 0.2 on an idle machine
FORK_SECONDS = 20.0
INNER_USER = 1000
# Who the jail's code is outside, where we may choose: nobody else, so that its limit of threads counts its own only.
OUTER_USERS = (2_000_000_000, 65_534)
ENVIRONMENT = {
    "PYTHONNOUSERSITE": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUTF8": "1",
    "PYTHONHASHSEED": "0",  # a grader gives the same score each time
    "OPENBLAS_NUM_THREADS": "1",  # a process with threads cannot be forked safely
    "OMP_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
    "LC_ALL": "C.UTF-8",
    "HOME": "/grader",
    "TMPDIR": "/grader",
    "USER": "grader",
}


class JailFault(ServerFault):
    """The jail could not be built, or ended; the message says what was refused."""


class CallTimedOut(ServerFault):
    """A call that took longer than it may."""


class CallDied(ServerFault):
    """A call that ended without an answer; the message says how."""


class CallLeft(ServerFault):
    """A call that nobody waits for any more."""


class Zygote:
    """One zygote and the process that it keeps ready.

    One thread at a time uses it. Raises JailFault.
    """

    def __init__(self, memory_bytes: int, processor_seconds: int) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._server = ours
        self._limits = (memory_bytes, processor_seconds)
        self._pipes = (-1, -1)
        self._handle = -1
        self._using = threading.RLock()
        with theirs:
            self._process = _started(theirs.fileno())
        try:
            self._await(b"maps", START_SECONDS)
            _map_users(self._process.pid)
            self._server.send(b"go")
            self._await(b"ready", START_SECONDS)
            self._fork()
        except BaseException:
            self.end()
            raise

    def await_ready(self, left: int) -> None:
        """Waits until the walls of the next call stand.

        `left`: a descriptor that becomes readable when nobody waits any more. Raises CallTimedOut, CallLeft, JailFault.
        """
        with self._using:
            reading = self._pipes[1]
            if _received(reading, 1, time.monotonic() + FORK_SECONDS, left) != frames.READY:
                raise JailFault(f"the jail could not be built: {self._why_not(reading)}")
            if select.select([self._handle], [], [], 0)[0]:  # readable: it has ended since
                raise JailFault("the jail's process has ended")

    def ask(self, request: bytes, seconds: float, left: int) -> Answer:
        """The answer of the process that stands ready.

        Raises CallTimedOut, CallDied and CallLeft.
        """
        with self._using:
            writing, reading = self._pipes
            deadline = time.monotonic() + seconds
            _send(writing, frames.packed(request), deadline, left)
            return _answer(reading, deadline, left)

    def renew(self) -> str:
        """Ends the process of the last call, whatever it does, and keeps a new one ready.

        How it ended: "exit status 3", "SIGSEGV".
        """
        with self._using:
            how = self._end_call()
            self._fork()
            return how

    def end(self) -> None:
        """Ends the zygote and what it forked; any thread may."""
        if self._process.returncode is None:  # else its number may be another's by now
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        with self._using:  # soon, as nobody answers any more
            self._server.close()
            self._close_call()
            self._process.wait()

    def _fork(self) -> None:
        request_end, writing = os.pipe()
        reading, answer_end = os.pipe()
        self._pipes = (writing, reading)
        os.set_blocking(writing, False)
        try:
            message = f"{self._limits[0]} {self._limits[1]} {INNER_USER}".encode()
            socket.send_fds(self._server, [message], [request_end, answer_end])
            self._handle = self._await(b"forked", FORK_SECONDS)
        except OSError as error:
            raise JailFault(f"the jail's process has ended: {error.strerror}") from error
        finally:
            os.close(request_end)
            os.close(answer_end)

    def _end_call(self) -> str:
        """Kills the process of a call and says how it ended, if it had ended by itself before."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)
        message = self._receive(FORK_SECONDS)
        self._close_call()
        if not message.startswith(b"ended "):
            raise JailFault("the jail's process has ended")
        code = int(message.split()[1])
        if code >= 0:
            return f"exit status {code}"
        return signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"

    def _close_call(self) -> None:
        for descriptor in (*self._pipes, self._handle):
            if descriptor >= 0:
                os.close(descriptor)
        self._pipes, self._handle = (-1, -1), -1

    def _why_not(self, reading: int) -> str:
        """What the process that could not build its walls wrote; its first byte has been read."""
        told = os.read(reading, frames.MAX_ANSWER)
        return frames.printable(told.decode("utf-8", "replace")) or "its process ended"

    def _await(self, wanted: bytes, seconds: float) -> int:
        """Waits for a message; the descriptor that came with it, or -1. Raises JailFault."""
        self._server.settimeout(seconds)
        try:
            message, descriptors, _, _ = socket.recv_fds(self._server, 512, 1, socket.MSG_CMSG_CLOEXEC)
        except TimeoutError:
            raise JailFault(f"the jail was not built within {seconds:g} seconds") from None
        if message != wanted:
            told = message.decode("utf-8", "replace").removeprefix("fault ")
            raise JailFault(told or "the jail's process ended while it started")
        return descriptors[0] if descriptors else -1

    def _receive(self, seconds: float) -> bytes:
        self._server.settimeout(seconds)
        try:
            return self._server.recv(512)
        except OSError:
            return b""


def _started(descriptor: int) -> "subprocess.Popen[bytes]":
    source = str(Path(tunesmith.__file__).parents[1])
    try:
        return subprocess.Popen(  # a fixed command line; code and rows travel as data
            module_command("tunesmith.graders.jail.zygote", str(descriptor)),
            env={**ENVIRONMENT, "PYTHONPATH": source},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(descriptor,),
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise JailFault(f"the jail's process cannot be started: {error.strerror}") from error


def _map_users(process: int) -> None:
    """Says who the users 0 and 1000 of the jail are outside.

    A superuser takes an unused number for 1000, and everybody else only has their own.
    """
    folder = Path("/proc") / str(process)
    if os.geteuid() == 0:
        for outer in OUTER_USERS:
            with suppress(OSError):
                for kind in ("gid_map", "uid_map"):
                    (folder / kind).write_text(f"0 0 1\n{INNER_USER} {outer} 1\n", "ascii")
                return
    try:
        (folder / "setgroups").write_text("deny", "ascii")
        (folder / "gid_map").write_text(f"{INNER_USER} {os.getegid()} 1\n", "ascii")
        (folder / "uid_map").write_text(f"{INNER_USER} {os.geteuid()} 1\n", "ascii")
    except OSError as error:
        raise JailFault(f"uid_map: {error.strerror}") from error


def _send(writing: int, data: bytes, deadline: float, left: int) -> None:
    view = memoryview(data)
    while view:
        _wait(writing, select.POLLOUT, deadline, left)
        try:
            view = view[os.write(writing, view[: 1 << 16]) :]
        except BlockingIOError:
            continue
        except BrokenPipeError:
            raise CallDied("") from None


def _answer(reading: int, deadline: float, left: int) -> Answer:
    data = b""
    try:
        while missing := frames.missing_bytes(data):
            part = _received(reading, missing, deadline, left)
            if not part:
                raise CallDied("")
            data += part
        return frames.read_answer(data)
    except ValueError as error:
        raise CallDied(f"it wrote over its own answer ({error})") from error


def _received(reading: int, length: int, deadline: float, left: int) -> bytes:
    _wait(reading, select.POLLIN, deadline, left)
    return os.read(reading, length)


def _wait(descriptor: int, event: int, deadline: float, left: int) -> None:
    poll = select.poll()
    poll.register(descriptor, event)
    poll.register(left, select.POLLIN)
    events = dict(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
    if left in events:
        raise CallLeft("The client has gone.")
    if not events:
        raise CallTimedOut("it took longer than it may")
