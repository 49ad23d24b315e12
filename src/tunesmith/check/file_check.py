"""A training file -> a report. The same call serves `tunesmith check`, the upload and the worker before training.

Nothing is raised for what a file holds: every fault is a finding with line, path, message and cure.
"""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson

from tunesmith.check.report.base_counts import count_base
from tunesmith.check.report.file_report import Report, distribution
from tunesmith.check.rules.file_rules import METHOD_KINDS, MIN_EXAMPLES, file_findings, system_prompts
from tunesmith.check.scan.analysers import DEFAULT_ANALYSERS, finish
from tunesmith.check.scan.chunk import scan
from tunesmith.check.scan.result import ChunkResult, ScanOptions, merged
from tunesmith.check.scan.workers import scan_chunks
from tunesmith.jsonvalue import JsonObject
from tunesmith.render.renderer import Renderer
from tunesmith.rows.findings import FindingLog, finding
from tunesmith.rows.lines import MAX_LINE_BYTES, Chunk, chunks, read_chunk, sniff
from tunesmith.rows.row_faults import Kind, kind_of
from tunesmith.system.cpu import cpu_count
from tunesmith.tokens import DEFAULT_ENCODING

PARALLEL_BYTES = 16 * 1024 * 1024  # below this, starting processes takes longer than the check
OPENAI_LIMITS = {"cl100k_base": 16_385, "o200k_base": 65_536}  # gpt-3.5-turbo-0125; gpt-4o and 4.1
GIVE_UP_ROWS = 1_000_000  # with a fault, all of them: a minute of one core when they are single letters
Progress = Callable[[int, int], None]  # bytes done, bytes in all


def check_file(
    path: Path,
    *,
    renderer: Renderer | None = None,
    max_tokens: int | None = None,
    method: str | None = None,
    encoding: str = DEFAULT_ENCODING,
    analysers: Sequence[str] = DEFAULT_ANALYSERS,
    min_examples: int = MIN_EXAMPLES,
    progress: Progress | None = None,
) -> Report:
    """The report on `path`.

    `renderer` adds the base model's own counts; `max_tokens` is the limit per row, in the base's tokens when there
    is a renderer, else in OpenAI's (default: OpenAI's limit for the encoding). `method` says what the rows must fit.
    """
    started = time.perf_counter()
    size = path.stat().st_size
    log = FindingLog()
    log.extend(sniff(path))
    limit = OPENAI_LIMITS.get(encoding, 65_536)
    openai_limit = max_tokens if renderer is None and max_tokens is not None else limit
    kind: Kind | None = None
    result = ChunkResult()
    sections: JsonObject = {}
    if not log.errors:
        kind = file_kind(path, method)
        options = ScanOptions(
            kind,
            encoding,
            openai_limit if renderer is None else None,
            tuple(analysers),
            lost=renderer.lost_bytes if renderer is not None else b"",
        )
        result, parts = merged(_until_hopeless(_results(path, options, size, progress)), log)
        if result.examples >= GIVE_UP_ROWS and not result.lines.size:
            text = f"None of the first {result.examples:,} rows is sound; what follows was not read."
            log.add(finding("no_sound_row", None, text, value=str(result.examples)))
        result.path = path
        found, sections = finish(analysers, parts, result)
        log.extend(found)
        if prompts := system_prompts(result):
            sections["system_prompts"] = prompts
        log.extend(file_findings(result, kind, method, min_examples))
    base = None
    if renderer is not None and result.lines.size:
        base = count_base(path, renderer, result, max_tokens, log)
    billed = np.minimum(result.tokens, openai_limit)
    return Report(
        file=path.name,
        size=size,
        kind=kind,
        examples=result.examples,
        bad_rows=result.bad_rows,
        blank_lines=result.blank_lines,
        counts=log.counts,
        errors=tuple(log.errors),
        warnings=tuple(log.warnings),
        error_count=log.total("error"),
        warning_count=log.total("warning"),
        encoding=encoding,
        max_tokens=max_tokens if max_tokens is not None else openai_limit,
        openai_tokens=int(result.tokens.sum(dtype=np.int64)),
        openai_learned_tokens=int(result.learned.sum(dtype=np.int64)),
        openai_billed_tokens=int(billed.sum(dtype=np.int64)),
        openai_system_tokens=int(result.system_tokens.sum(dtype=np.int64)),
        roles=result.roles,
        base=base,
        messages_per_row=distribution(result.messages),
        tokens_per_row=distribution(result.tokens),
        learned_per_row=distribution(result.learned),
        sections=sections,
        seconds=time.perf_counter() - started,
    )


def _until_hopeless(results: Generator[ChunkResult]) -> Iterator[ChunkResult]:
    """The results, up to where a million rows had faults, all of them: to explain one takes longer than to read it."""
    rows = sound = 0
    with closing(results):
        for part in results:
            rows, sound = rows + part.examples, sound + len(part.lines)
            yield part
            if rows >= GIVE_UP_ROWS and not sound:
                return


def file_kind(path: Path, method: str | None = None) -> Kind | None:
    """The kind of the first row that has one; a first line beyond the limit has none."""
    for chunk in chunks(path):
        if chunk.too_long:
            continue
        for raw in read_chunk(path, chunk).split(b"\n"):
            try:
                kind = kind_of(orjson.loads(raw)) if raw else None
            except orjson.JSONDecodeError:
                continue
            if kind == "chat" and method == "reinforcement":
                return "reinforcement"
            if kind is not None:
                return kind
        break
    return None


def _results(path: Path, options: ScanOptions, size: int, progress: Progress | None) -> Generator[ChunkResult]:
    """One result for each chunk, in file order; `progress` hears of each."""
    planned: list[Chunk] = []

    def plan() -> Iterator[Chunk]:
        for chunk in chunks(path):
            planned.append(chunk)
            if not chunk.too_long:
                yield chunk

    if size < PARALLEL_BYTES or cores() < 2:
        scanned: Iterator[ChunkResult] = (scan(read_chunk(path, chunk), chunk.first_line, options) for chunk in plan())
    else:
        scanned = scan_chunks(path, plan(), replace(options, threads=1), cores())
    for result in scanned:
        while planned[0].too_long:
            yield _too_long(planned.pop(0))
        chunk = planned.pop(0)
        yield result
        if progress is not None:
            progress(chunk.offset + chunk.length, size)
    yield from map(_too_long, planned)


def cores() -> int:
    """The cores this process may use, at most 16: beyond that, reading and merging are what takes the time."""
    return min(16, cpu_count())


def _too_long(chunk: Chunk) -> ChunkResult:
    result = ChunkResult(examples=1, bad_rows=1)
    text = f"The line has {chunk.length:,} bytes; at most {MAX_LINE_BYTES:,} are read."
    result.log.add(finding("line_too_long", chunk.first_line, text, value=str(chunk.length)))
    return result


__all__ = ["METHOD_KINDS", "Report", "check_file", "cores", "file_kind"]
