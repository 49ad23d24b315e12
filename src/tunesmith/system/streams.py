"""Standard output and error that cope with their readers.

A reader of a pipe may leave, and a terminal may have only ASCII.
"""

import codecs
import io
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

PLAIN = {"…": "...", "–": "-", "→": "->", "✓": "ok", "⟦": "[", "⟧": "]", "“": '"', "”": '"', "’": "'", "×": "x"}


class ReaderGone(Exception):
    """Raised once by a write to a pipe that nobody reads any more (`| head`).

    No OSError, which libraries that print would handle in ways of their own.
    """


class _Output(io.FileIO):
    """A descriptor. When its reader has gone, it becomes /dev/null."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self.needs_reader = True

    def write(self, data: "ReadableBuffer", /) -> int:
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
