"""The chunks of a file, scanned by several processes.

Each worker is `python -m tunesmith.data.workers`: it reads one JSON task a line from its standard input and answers
with a JSON header and raw arrays. Plain child processes rather than `multiprocessing`, whose start methods run the
caller's main module again (spawn) or copy its threads' locks (fork).
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import IO

import numpy as np
import orjson
from numpy.typing import NDArray

from tunesmith.data.lines import Chunk, read_chunk
from tunesmith.data.result import ChunkResult, ScanOptions, options_from_json, options_to_json
from tunesmith.data.scan import scan
from tunesmith.errors import ServerFault
from tunesmith.jsonvalue import JsonObject

AHEAD = 3  # tasks in flight per worker: results wait for their turn, so this bounds memory


def scan_chunks(path: Path, chunks: Iterator[Chunk], options: ScanOptions, processes: int) -> Iterator[ChunkResult]:
    """The results in file order."""
    with ExitStack() as stack:
        idle: SimpleQueue[_Worker] = SimpleQueue()
        for _ in range(processes):
            idle.put(stack.enter_context(_Worker(path, options)))
        threads = stack.enter_context(ThreadPoolExecutor(processes))

        def one(chunk: Chunk) -> ChunkResult:
            worker = idle.get()
            try:
                return worker.scan(chunk)
            finally:
                idle.put(worker)

        waiting: list[Future[ChunkResult]] = []
        for chunk in chunks:
            waiting.append(threads.submit(one, chunk))
            if len(waiting) >= AHEAD * processes:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()


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
