"""Scans a whole file in one pass.

The result is all that is true of it whatever the base, the limit and the method.

What a base, a limit or a method adds is worked out from these numbers by `report`, so the result of one pass serves
the upload, the job and the leak check alike (`kept_scans`).
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from tunesmith.check.scan.analysers import finish
from tunesmith.check.scan.chunk import scan
from tunesmith.check.scan.result import ChunkResult, ScanOptions, merged
from tunesmith.check.scan.workers import scan_chunks
from tunesmith.jsonvalue import JsonObject
from tunesmith.rows.findings import FindingLog, at_line, finding
from tunesmith.rows.lines import Chunk, chunks, read_chunk, sniff
from tunesmith.rows.raw_row import too_long
from tunesmith.system.cpu import cpu_count

PARALLEL_BYTES = 16 * 1024 * 1024  # below this, starting processes takes longer than the check
KIND_CHUNKS = 2  # chunks at the start of a file in which a row must tell its kind
GIVE_UP_ROWS = 1_000_000  # with a fault, all of them: a minute of one core when they are single letters

Progress = Callable[[int, int], None]  # bytes done, bytes in all


@dataclass(frozen=True, slots=True)
class FileScan:
    """The result of one pass over a file.

    `rows` has the numbers, kind and findings of the whole file; `sections` is what the analysers report.

    Not `readable`: a file that is not JSONL at all, of which only the beginning was read.
    """

    rows: ChunkResult
    sections: JsonObject
    readable: bool = True


def scan_file(path: Path, options: ScanOptions, progress: Progress | None = None) -> FileScan:
    """Reads the file once and returns what was found.

    Nothing is raised for what it holds: faults are findings in `rows.log`.
    """
    log = FindingLog()
    log.extend(sniff(path))
    if log.errors:
        return FileScan(ChunkResult(log=log), {}, readable=False)
    whole, parts = merged(_until_hopeless(_results(path, options, progress)), log)
    if whole.examples >= GIVE_UP_ROWS and not whole.lines.size:
        text = f"None of the first {whole.examples:,} rows is valid; the rest was not read."
        log.add(finding("no_sound_row", None, text, value=str(whole.examples)))
    whole.path = path
    found, sections = finish(options.analysers, parts, whole)
    log.extend(found)
    return FileScan(whole, sections)


def cores() -> int:
    """The cores that a scan uses: those of this process, at most 16.

    Beyond that, reading and merging take the time.
    """
    return min(16, cpu_count())


def _until_hopeless(results: Generator[ChunkResult]) -> Iterator[ChunkResult]:
    """The results, up to where a million rows had faults, all of them: to explain one takes longer than to read it."""
    rows = sound = 0
    with closing(results):
        for part in results:
            rows, sound = rows + part.examples, sound + len(part.lines)
            yield part
            if rows >= GIVE_UP_ROWS and not sound:
                return


def _results(path: Path, options: ScanOptions, progress: Progress | None) -> Generator[ChunkResult]:
    """One result for each chunk, in file order; `progress` is told after each."""
    size = path.stat().st_size
    planned: list[Chunk] = []

    def plan() -> Iterator[Chunk]:
        for chunk in chunks(path):
            planned.append(chunk)
            if not chunk.too_long:
                yield chunk

    for result in _scanned(path, plan(), options, parallel=size >= PARALLEL_BYTES and cores() > 1):
        while planned[0].too_long:
            yield _too_long(planned.pop(0))
        chunk = planned.pop(0)
        yield result
        if progress is not None:
            progress(chunk.offset + chunk.length, size)
    yield from map(_too_long, planned)


def _scanned(path: Path, plan: Iterator[Chunk], options: ScanOptions, *, parallel: bool) -> Iterator[ChunkResult]:
    """The results of the chunks to read. The first ones are read here until a row tells the kind of the file."""
    read = 0
    options = replace(options, threads=1) if parallel else options
    while options.find_kind and read < KIND_CHUNKS and (chunk := next(plan, None)) is not None:
        result = scan(read_chunk(path, chunk), chunk.first_line, options)
        read += 1
        options = replace(options, kind=result.kind, find_kind=result.kind is None and read < KIND_CHUNKS)
        yield result
    if parallel:
        yield from scan_chunks(path, plan, options, cores())
    else:
        yield from (scan(read_chunk(path, chunk), chunk.first_line, options) for chunk in plan)


def _too_long(chunk: Chunk) -> ChunkResult:
    result = ChunkResult(examples=1, bad_rows=1)
    result.log.add(at_line(too_long(chunk.length), chunk.first_line))
    return result
