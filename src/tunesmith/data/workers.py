"""The chunks of a file, scanned by several processes.

Each worker is `python -m tunesmith.data.workers`: it reads one JSON task a line from its standard input and answers
with a JSON header and raw arrays. Plain child processes rather than `multiprocessing`, whose start methods run the
caller's main module again (spawn) or copy its threads' locks (fork).
"""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO

import numpy as np
import orjson
from numpy.typing import NDArray

from tunesmith.data.lines import Chunk, read_chunk
from tunesmith.data.result import ChunkResult, ScanOptions, options_from_json, options_to_json
from tunesmith.data.scan import scan
from tunesmith.errors import ServerFault
from tunesmith.jsonvalue import JsonObject


def scan_chunks(path: Path, chunks: Iterator[Chunk], options: ScanOptions, processes: int) -> Iterator[ChunkResult]:
    """The results in file order. This process is one of the `processes`: it scans while the others still start."""
    board = _Board(chunks)
    with ExitStack() as stack:
        threads = []
        for _ in range(processes - 1):
            worker = stack.enter_context(_Worker(path, options))
            threads.append(threading.Thread(target=_serve, args=(board, worker), daemon=True))
            threads[-1].start()
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


class _Worker:
    """One child process; used by one thread at a time."""

    def __init__(self, path: Path, options: ScanOptions) -> None:
        self._process = subprocess.Popen(  # a fixed command line; the path travels as data
            [sys.executable, "-P", "-m", "tunesmith.data.workers"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._send({"path": os.fspath(path.absolute()), "options": options_to_json(options)})

    def __enter__(self) -> "_Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def scan(self, chunk: Chunk) -> ChunkResult:
        self._send({"offset": chunk.offset, "length": chunk.length, "first_line": chunk.first_line})
        assert self._process.stdout is not None  # noqa: S101
        return _receive(self._process.stdout)

    def _send(self, task: JsonObject) -> None:
        assert self._process.stdin is not None  # noqa: S101
        self._process.stdin.write(orjson.dumps(task) + b"\n")
        self._process.stdin.flush()


def _receive(stream: IO[bytes]) -> ChunkResult:
    line = stream.readline()
    if not line:
        raise ServerFault(
            "A process that was checking the file ended early; there may be too little memory. Try again."
        )
    header = orjson.loads(line)
    arrays: dict[str, NDArray[np.generic]] = {}
    described: list[tuple[str, str, list[int], int]] = header.pop("arrays")
    for name, kind, shape, size in described:
        arrays[name] = np.frombuffer(stream.read(size), dtype=kind).reshape(shape)
    return ChunkResult.from_wire(header, arrays)


def main() -> None:
    """Serve tasks until the standard input ends."""
    source, answers = sys.stdin.buffer, sys.stdout.buffer
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
        main()
