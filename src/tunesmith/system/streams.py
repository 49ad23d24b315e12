"""Standard output and error that cope with their readers.

A reader of a pipe may leave, and a terminal may have only ASCII.
"""

import codecs
import io
import os
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

PLAIN = {"…": "...", "–": "-", "→": "->", "✓": "ok", "⟦": "[", "⟧": "]", "“": '"', "”": '"', "’": "'", "×": "x"}


START_SECONDS = 0.7  # a command that prints sooner says nothing of its start
CLEAR_LINE = "\r\x1b[2K"


class ReaderGone(Exception):
    """Raised once by a write to a pipe that nobody reads any more (`| head`).

    No OSError, which libraries that print would handle in ways of their own.
    """


class _Starting(threading.Thread):
    """A line on the terminal for as long as the process has printed nothing: imports may take seconds."""

    def __init__(self) -> None:
        super().__init__(name="starting", daemon=True)
        self._begun = time.monotonic()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._shown = False

    def run(self) -> None:
        wait = START_SECONDS
        while not self._ended.wait(wait):
            wait = 1.0
            with self._lock:
                if not self._ended.is_set():
                    self._shown = True
                    seconds = time.monotonic() - self._begun
                    os.write(2, f"{CLEAR_LINE}tunesmith is starting ... {seconds:.0f}s".encode())

    def end(self) -> None:
        """Takes the line away, for good."""
        self._ended.set()
        with self._lock:
            if self._shown:
                os.write(2, CLEAR_LINE.encode())
                self._shown = False


_starting: _Starting | None = None


def show_start() -> None:
    """Says on a terminal that the process starts, until it prints something else."""
    global _starting
    if not os.isatty(2) or os.environ.get("TERM") == "dumb":
        return
    _starting = _Starting()
    os.register_at_fork(after_in_child=_forget_start)
    _starting.start()


def end_start() -> None:
    """Takes away the line of `show_start`, if it is there."""
    if _starting is not None:
        with suppress(OSError):  # the terminal was closed
            _starting.end()
        _forget_start()


def _forget_start() -> None:
    global _starting
    _starting = None


class _Output(io.FileIO):
    """A descriptor. When its reader has gone, it becomes /dev/null."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self.needs_reader = True

    def write(self, data: "ReadableBuffer", /) -> int:
        if _starting is not None:
            end_start()
        try:
            return super().write(data)
        except BrokenPipeError:
            with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - of the descriptor, not of a path
                os.dup2(nowhere.fileno(), self.fileno())
            if self.needs_reader:
                raise ReaderGone from None
        except OSError:  # a full disk, a terminal that was closed
            if self.needs_reader:
                raise
        return len(memoryview(data).cast("B"))


_outputs: list[_Output] = []


def guard_streams() -> None:
    """Replaces stdout and stderr with guarded ones, for a process that has just begun."""
    codecs.register_error("plain", _plain)
    sys.stdout = _guarded(sys.stdout, 1)
    sys.stderr = _guarded(sys.stderr, 2)


def outlive_readers() -> None:
    """From now on, lost output is no reason to stop: for processes that others need."""
    for output in _outputs:
        output.needs_reader = False


def _guarded(stream: object, descriptor: int) -> io.TextIOWrapper:
    if not isinstance(stream, io.TextIOWrapper):  # None: it was closed before we began (`>&-`)
        return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - it lives as long as the process
    stream.flush()
    output = _Output(descriptor)
    _outputs.append(output)
    line_buffering = stream.line_buffering or output.isatty()
    buffered = io.BufferedWriter(output)
    return io.TextIOWrapper(
        buffered,
        encoding=stream.encoding,
        errors="plain",
        line_buffering=line_buffering,
        write_through=stream.write_through,
    )


def _plain(error: UnicodeError) -> tuple[str, int]:
    """What is shown for characters that the terminal's encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(PLAIN.get(one, "?") for one in error.object[error.start : error.end]), error.end
