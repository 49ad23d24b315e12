"""The children that check files and look at their rows, a few at a time.

Each is used again for the next file.

A file may make a check endless, take all memory or crash compiled code: that ends a child, and the server lives.
"""

import atexit
import os
import select
import signal
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

import orjson

from tunesmith.check.isolated.look import REFUSED, SEEN, Look
from tunesmith.check.isolated.task import FAULT, GONE, NO_MEMORY, CheckTask
from tunesmith.errors import InvalidRequest, ServerFault
from tunesmith.jsonvalue import JsonObject
from tunesmith.system.cpu import cpu_count
from tunesmith.system.python import module_command, without_keys

MOST_CHILDREN = 4
IDLE_CHILDREN = 2  # of 100 MB each
LARGE_BYTES = 16 * 1024 * 1024  # a child that has checked so much may hold memory: it ends


class CheckTimedOut(ServerFault):
    """A check that took longer than it may."""


class CheckDied(ServerFault):
    """A check that ended its process, by a crash or for want of memory."""


class CheckFailed(ServerFault):
    """A check that failed by a fault of ours; the message is the traceback."""


class CheckBusy(ServerFault):
    """No child was free, or could be started, in time."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found: `details` is the `status_details` of a file that is wrong."""

    details: str | None
    report: JsonObject


class CheckChildren:
    """The checks of one server. Any thread may call."""

    def __init__(self) -> None:
        self._places = threading.BoundedSemaphore(max(2, min(MOST_CHILDREN, cpu_count())))
        self._busy: set[_Child] = set()
        self.stopped = False

    def warm(self) -> None:
        """Starts a child, so that the first upload need not wait for one."""
        if not _idle:
            with suppress(OSError):
                _release(_Child())

    def check(self, task: CheckTask, *, wait: float) -> Verdict | None:
        """The verdict on a file; None when it is gone.

        Raises CheckBusy when no child is free within `wait` seconds, and CheckTimedOut, CheckDied or CheckFailed.
        """
        answer = self._answer(task, _size(task), wait)
        return None if GONE in answer else _verdict(answer)

    def look(self, look: Look, *, wait: float) -> JsonObject | None:
        """What a look at a file shows; None when it is gone.

        Raises as `check` does, and InvalidRequest where the function refuses.
        """
        answer = self._answer(look, look.size, wait)
        if REFUSED in answer:
            param, code = answer["param"], answer["code"]
            raise InvalidRequest(
                str(answer[REFUSED]),
                param=None if param is None else str(param),
                code=None if code is None else str(code),
            )
        return None if GONE in answer else _seen(answer)

    def _answer(self, task: CheckTask | Look, size: int, wait: float) -> JsonObject:
        if self.stopped or not self._places.acquire(timeout=wait):
            raise CheckBusy("All processes that check files are busy.")
        try:
            return self._asked(task, size)
        finally:
            self._places.release()

    def stop(self) -> None:
        """Ends the checks under way, which raise CheckBusy."""
        self.stopped = True
        for child in tuple(self._busy):
            child.kill()

    def _asked(self, task: CheckTask | Look, size: int) -> JsonObject:
        child = _take()
        self._busy.add(child)
        try:
            answer = child.ask(task)
        except BaseException:
            child.end()
            if self.stopped:
                raise CheckBusy("The server is stopping.") from None
            raise
        finally:
            self._busy.discard(child)
        _release(child, keep=NO_MEMORY not in answer and size < LARGE_BYTES)
        return answer


_idle: list["_Child"] = []  # of the whole process: a child knows nothing but the task it gets


@atexit.register
def _end_idle() -> None:
    while _idle:
        _idle.pop().end()


def _take() -> "_Child":
    while True:
        try:
            child = _idle.pop()
        except IndexError:
            break
        if child.alive():
            return child
        child.end()
    try:
        return _Child()
    except OSError as error:  # no descriptors, processes or memory just now
        raise CheckBusy(f"No process that checks files can be started ({error.strerror}).") from error


def _release(child: "_Child", *, keep: bool = True) -> None:
    if keep and len(_idle) < IDLE_CHILDREN:
        _idle.append(child)
    else:
        child.end()


def _size(task: CheckTask) -> int:
    with suppress(OSError):
        return task.path.stat().st_size
    return 0


def _verdict(answer: JsonObject) -> Verdict:
    _demand_done(answer)
    details, report = answer["details"], answer["report"]
    assert isinstance(report, dict)  # noqa: S101
    return Verdict(None if details is None else str(details), report)


def _seen(answer: JsonObject) -> JsonObject:
    _demand_done(answer)
    seen = answer[SEEN]
    assert isinstance(seen, dict)  # noqa: S101
    return seen


def _demand_done(answer: JsonObject) -> None:
    if NO_MEMORY in answer:
        raise CheckDied("it took more memory than it may")
    if FAULT in answer:
        raise CheckFailed(str(answer[FAULT]))


class _Child:
    """One child process, in a session of its own: what it starts is killed with it. One thread at a time uses it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # a fixed command line; the path travels as data
            module_command("tunesmith.check.isolated.child"),
            env=without_keys(os.environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, task: CheckTask | Look) -> JsonObject:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None  # noqa: S101
        assert stdout is not None  # noqa: S101
        deadline = time.monotonic() + task.seconds
        with suppress(BrokenPipeError):  # it died meanwhile: its answer says so
            stdin.write(orjson.dumps(task.to_json()) + b"\n")
            stdin.flush()
        line = _line(stdout, deadline)
        if not line.endswith(b"\n"):
            raise CheckDied(self._end())
        answer: JsonObject = orjson.loads(line)
        return answer

    def kill(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def end(self) -> None:
        if self.alive():
            self.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):
                assert stream is not None  # noqa: S101
                stream.close()

    def _end(self) -> str:
        code = self._process.wait()
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"exit status {code}"
        return f"its process ended with {name}"


def _line(stream: IO[bytes], deadline: float) -> bytes:
    """Up to the end of a line, or of the stream. Raises CheckTimedOut at the deadline."""
    parts: list[bytes] = []
    poll = select.poll()
    poll.register(stream, select.POLLIN)
    while not parts or not parts[-1].endswith(b"\n"):
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise CheckTimedOut("it took longer than it may")
        part = os.read(stream.fileno(), 1 << 16)
        if not part:
            break
        parts.append(part)
    return b"".join(parts)
