"""One chunk of lines -> counts, findings and a few numbers per row. Pure; runs in this process or in a worker's.

Each row is looked at once. A chat row whose messages have a role and a content and nothing else takes the fast path;
everything else, and every row in doubt, takes the careful one, which explains. What must be known of the whole file
(contradictions, totals) is left to `check`, which gets small arrays and never a row's text.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, count, repeat

import numpy as np
from numpy.typing import NDArray

from tunesmith.check.rules.quality import unwritable
from tunesmith.check.scan.analysers import analyse
from tunesmith.check.scan.batch import Batch, BatchRow
from tunesmith.check.scan.plain_rows import BLOCK_ROWS, PlainRows, key_marks
from tunesmith.check.scan.result import ChunkResult, ScanOptions
from tunesmith.rows.findings import Finding, at_line, finding
from tunesmith.rows.parse import BrokenLine, parse_line
from tunesmith.rows.row_faults import kind_of, row_faults
from tunesmith.rows.row_texts import row_texts
from tunesmith.tokens import count_tokens


def scan(data: bytes, first_line: int, options: ScanOptions) -> ChunkResult:
    """The findings and numbers of the lines in `data`, the first of which is line `first_line` of the file."""
    with _no_collector():
        return _scan(data, first_line, options)


def _scan(data: bytes, first_line: int, options: ScanOptions) -> ChunkResult:
    result = ChunkResult()
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    batch = Batch(_sound_rows(data, lines, first_line, options, result))
    result.examples = len(lines) - result.blank_lines
    _fill(result, batch, options)
    analyse(data, batch, options.analysers, result)
    unwritable(batch, options.lost, result.log)
    return result


def _sound_rows(
    data: bytes, lines: list[bytes], first_line: int, options: ScanOptions, result: ChunkResult
) -> list[BatchRow]:
    """The rows without errors, in order; the faults of all go to `result`."""
    rows: list[BatchRow] = []
    plain = PlainRows() if options.kind in (None, "chat") else None
    marks = key_marks(data, lines) if plain is not None else []
    for at in range(0, len(lines), BLOCK_ROWS):
        block = lines[at : at + BLOCK_ROWS]
        first = first_line + at
        if (not block[0] or block[0].isspace()) and not b"".join(block).strip():  # a file may hold nothing else
            result.blank_lines += len(block)
            result.first_blank = result.first_blank or first
            continue
        taken = plain.take(block, first, marks[at : at + BLOCK_ROWS]) if plain is not None else repeat(None)
        for number, raw, row in zip(count(first), block, taken, strict=False):
            if row is not None:
                rows.append(row)
                for fault in row.about.warnings:
                    result.log.add_fault(fault, number)
            elif not raw or raw.isspace():
                result.blank_lines += 1
                result.first_blank = result.first_blank or number
            elif (sound := _careful_row(raw, number, options, result)) is not None:
                rows.append(sound)
    if plain is not None:
        for roles, taken_rows in plain.taken.items():
            result.add_kind("chat", taken_rows)
            for role in roles:
                result.add_role(role, taken_rows)
    return rows


@contextmanager
def _no_collector() -> Iterator[None]:
    """A chunk's rows hold no cycles, and a collector that walks them costs a tenth of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _careful_row(raw: bytes, number: int, options: ScanOptions, result: ChunkResult) -> BatchRow | None:
    """The row if it has no error; its faults go to `result`."""
    try:
        value = parse_line(raw)
    except BrokenLine as broken:
        result.log.add(at_line(broken.fault, number))
        result.bad_rows += 1
        return None
    result.add_kind(kind_of(value) or "unknown")
    found = [at_line(fault, number) for fault in row_faults(value, options.kind)]
    result.log.extend(found)
    if any(one.severity == "error" for one in found):
        result.bad_rows += 1
        return None
    if not isinstance(value, dict):
        return None
    about = row_texts(value)
    for role in about.roles:
        result.add_role(role)
    encoded = [text.encode() for text in about.texts]
    return BatchRow(number, about, about.texts, encoded, about.system, about.prompt, about.answer)


def _fill(result: ChunkResult, batch: Batch, options: ScanOptions) -> None:
    """The per-row arrays, and findings that need token counts."""
    rows = batch.rows
    if not rows:
        return
    counts = _counts(batch, options)
    starts = np.asarray(batch.starts)
    lines, abouts, _, _, systems, prompts, answers = zip(*rows, strict=True)
    learned = np.fromiter(chain.from_iterable([about.learned for about in abouts]), bool, len(counts))
    system_at = np.asarray([about.system_at for about in abouts])
    overhead = np.asarray([about.overhead for about in abouts])
    result.lines = np.asarray(lines, np.int32)
    result.messages = np.asarray([len(about.roles) for about in abouts], np.int32)
    result.tokens = (np.add.reduceat(counts, starts) + overhead).astype(np.int32)
    result.learned = np.add.reduceat(np.where(learned, counts, 0), starts).astype(np.int32)
    result.system_tokens = np.where(system_at >= 0, counts[starts + system_at], 0).astype(np.int32)
    result.systems = np.asarray(systems, np.uint64)
    result.prompts = np.asarray(prompts, np.int64)
    result.answers = np.asarray(answers, np.int64)
    if options.max_tokens is not None:
        result.log.extend(_over_limit(batch, counts, options.max_tokens, result))


def _counts(batch: Batch, options: ScanOptions) -> NDArray[np.int32]:
    """Tokens of each text; a text that stands in many rows is counted once."""
    if not batch.copies:
        return np.asarray(count_tokens(batch.texts, options.encoding, options.threads), np.int32)
    counts = np.zeros(len(batch.texts), np.int32)
    texts = [batch.texts[number] for number in batch.searched]
    counts[batch.searched] = count_tokens(texts, options.encoding, options.threads)
    for number, others in batch.copies.items():
        counts[others] = counts[number]
    return counts


def _over_limit(batch: Batch, counts: NDArray[np.int32], limit: int, result: ChunkResult) -> Iterator[Finding]:
    for number in np.flatnonzero(result.tokens > limit).tolist():
        row, start, total = batch.rows[number], batch.starts[number], int(result.tokens[number])
        length, overhead = len(row.texts), row.about.overhead
        first = next((at for at in range(length) if row.about.learned[at]), length)
        before = int(counts[start : start + first].sum()) + (overhead - 1) * (first + 1) // length
        if before >= limit:
            text = f"The row has {total} tokens, {before} of them before the answer; the limit is {limit}."
            yield finding("answer_cut", row.line, text, value=str(total))
            result.bad_rows += 1
        else:
            text = f"The row has {total} tokens and the limit is {limit}: {total - limit} are cut off its end."
            yield finding("over_limit", row.line, text, value=str(total))
