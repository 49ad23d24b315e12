"""The chunks of a file, scanned by several processes.

Each worker reads one JSON task a line and answers with a JSON header and raw arrays. A program with one thread, as the
command line is, forks its workers: they share what is loaded, and a fresh Python would spend 0.3 s of a core on imports
and token tables. Anything else starts `python -m tunesmith.check.scan.workers`, as a fork copies the locks that other
threads hold; `multiprocessing` would also run the caller's main module again (spawn).
"""

import os
import signal
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, NoReturn

import orjson

from tunesmith.check.scan.chunk import scan
from tunesmith.check.scan.result import ChunkResult, ScanOptions, options_from_json, options_to_json, read_arrays
from tunesmith.errors import ServerFault
from tunesmith.jsonvalue import JsonObject
from tunesmith.rows.lines import Chunk, read_chunk
from tunesmith.system.python import module_command, without_keys


def scan_chunks(path: Path, chunks: Iterator[Chunk], options: ScanOptions, processes: int) -> Iterator[ChunkResult]:
    """The results in file order, computed by several processes.

    This one is among the `processes`: it scans while the others still start.
    """
    board = _Board(chunks)
    with ExitStack() as stack:
        workers: list[_Worker] = []
        forks = _may_fork()  # before the first of our own threads
        for _ in range(processes - 1):
            channel = _forked(workers) if forks else _spawned()
            workers.append(stack.enter_context(_Worker(channel, path, options)))
        threads = [threading.Thread(target=_serve, args=(board, worker), daemon=True) for worker in workers]
        for thread in threads:
            thread.start()
        stack.callback(board.stop)
        while (task := board.take()) is not None:
            board.put(task, scan(read_chunk(path, task[1]), task[1].first_line, options))
            yield from board.ready()
        for thread in threads:
            thread.join()
        yield from board.ready()


class _Board:
    """Chunks to do and results done. Results are small, so nothing bounds how many wait for their turn."""

    def __init__(self, chunks: Iterator[Chunk]) -> None:
        self._chunks = enumerate(chunks)
        self._lock = threading.Lock()
        self._done: dict[int, ChunkResult] = {}
        self._next = 0
        self._stopped = False
        self._error: Exception | None = None

    def take(self) -> tuple[int, Chunk] | None:
        with self._lock:
            return None if self._stopped or self._error is not None else next(self._chunks, None)

    def put(self, task: tuple[int, Chunk], result: ChunkResult) -> None:
        self._done[task[0]] = result

    def ready(self) -> Iterator[ChunkResult]:
        if self._error is not None:
            raise self._error
        while self._next in self._done:
            yield self._done.pop(self._next)
            self._next += 1

    def stop(self) -> None:
        self._stopped = True

    def fail(self, error: Exception) -> None:
        self._error = error


def _serve(board: _Board, worker: "_Worker") -> None:
    try:
        while (task := board.take()) is not None:
            board.put(task, worker.scan(task[1]))
    except Exception as error:
        board.fail(error)


@dataclass(frozen=True, slots=True)
class _Channel:
    """The two ends of a worker's pipes that are ours. `end` kills it and waits for its end."""

    tasks: IO[bytes]
    answers: IO[bytes]
    end: Callable[[], object]


class _Worker:
    """One child process; used by one thread at a time."""

    def __init__(self, channel: _Channel, path: Path, options: ScanOptions) -> None:
        self.channel = channel
        self._send({"path": os.fspath(path.absolute()), "options": options_to_json(options)})

    def __enter__(self) -> "_Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.end()
        for stream in (self.channel.tasks, self.channel.answers):
            with suppress(BrokenPipeError):
                stream.close()

    def scan(self, chunk: Chunk) -> ChunkResult:
        self._send({"offset": chunk.offset, "length": chunk.length, "first_line": chunk.first_line})
        return _receive(self.channel.answers)

    def _send(self, task: JsonObject) -> None:
        self.channel.tasks.write(orjson.dumps(task) + b"\n")
        self.channel.tasks.flush()


def _spawned() -> _Channel:
    process = subprocess.Popen(  # a fixed command line; the path travels as data
        module_command("tunesmith.check.scan.workers"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=without_keys(os.environ),
    )
    assert process.stdin is not None  # noqa: S101
    assert process.stdout is not None  # noqa: S101

    def end() -> None:
        process.kill()
        process.wait()

    return _Channel(process.stdin, process.stdout, end)


def _may_fork() -> bool:
    """Where a fork is safe: Linux, and no other thread that might hold a lock just now."""
    return sys.platform == "linux" and threading.active_count() == 1


def _forked(others: Sequence[_Worker]) -> _Channel:
    tasks, our_tasks = os.pipe()
    our_answers, answers = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns of any thread; those of numeric libraries hold no lock while they wait for work.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        for pipe in (our_tasks, our_answers, *(one.channel.tasks.fileno() for one in others)):
            os.close(pipe)  # a worker ends when every other end of its pipe is closed
        _run_fork(tasks, answers)
    os.close(tasks)
    os.close(answers)

    @cache  # a number that has been waited for may be another process's
    def end() -> None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

    return _Channel(os.fdopen(our_tasks, "wb"), os.fdopen(our_answers, "rb"), end)


def _run_fork(tasks: int, answers: int) -> NoReturn:
    """Serves, and ends the process without what an exit would run or write a second time."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and ends us
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        serve(os.fdopen(tasks, "rb"), os.fdopen(answers, "wb"))
        status = 0
    except BrokenPipeError:
        status = 0
    except BaseException:  # nothing above may go on in this process
        traceback.print_exc()
    finally:
        os._exit(status)


def _receive(stream: IO[bytes]) -> ChunkResult:
    line = stream.readline()
    if not line:
        raise ServerFault(
            "A process that was checking the file ended early; there may be too little memory. Try again."
        )
    header = orjson.loads(line)
    return ChunkResult.from_wire(header, read_arrays(header.pop("arrays"), stream.read))


def serve(source: IO[bytes], answers: IO[bytes]) -> None:
    """Serve tasks until the source ends."""
    first = orjson.loads(source.readline())
    path, options = Path(first["path"]), options_from_json(first["options"])
    for line in source:
        chunk = Chunk(**orjson.loads(line))
        header, arrays = scan(read_chunk(path, chunk), chunk.first_line, options).to_wire()
        answers.write(header + b"\n")
        for array in arrays:
            answers.write(array)
        answers.flush()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt, BrokenPipeError):  # the parent is gone or going: it says why
        serve(sys.stdin.buffer, sys.stdout.buffer)
