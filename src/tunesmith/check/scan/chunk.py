"""Scans one chunk of lines: counts, findings and a few numbers per row.

Pure; runs in this process or in a worker's.

Each row is parsed once. A chat row whose messages have a role and a content and nothing else takes the fast path;
everything else, and every row in doubt, takes the careful one, which explains. What must be known of the whole file
(contradictions, totals, limits) is left to the report, which gets small arrays and never a row's text.
"""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, count, repeat

import numpy as np
from numpy.typing import NDArray

from tunesmith.check.rules.quality import unwritable
from tunesmith.check.scan.analysers import analyse
from tunesmith.check.scan.batch import Batch, BatchRow
from tunesmith.check.scan.plain_rows import BLOCK_ROWS, PlainRows, key_marks
from tunesmith.check.scan.result import ChunkResult, ScanOptions
from tunesmith.check.scan.row_forms import chat_form, form_of
from tunesmith.rows.findings import at_line
from tunesmith.rows.parse import UNPARSED, BrokenLine, ParsedLine, parse_block, parse_line, unambiguous
from tunesmith.rows.row_faults import Kind, kind_of, row_faults
from tunesmith.rows.row_texts import RowTexts, row_texts
from tunesmith.tokens import count_tokens


def scan(data: bytes, first_line: int, options: ScanOptions) -> ChunkResult:
    """The findings and numbers of the lines in `data`.

    The first of them is line `first_line` of the file.
    """
    result = ChunkResult()
    with _no_collector():
        batch = Batch(sound_rows(data, first_line, options, result))
        _fill(result, batch, options)
        analyse(data, batch, options.analysers, result)
        unwritable(batch, options.lost, result.log)
    return result


def sound_rows(data: bytes, first_line: int, options: ScanOptions, result: ChunkResult) -> list[BatchRow]:
    """The rows without errors, in order.

    What is wrong with the others goes to `result`, with the counts of lines.
    """
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    reader = _RowReader(options, result)
    marks = key_marks(data, lines) if options.kind in (None, "chat") else [-1] * len(lines)
    for at in range(0, len(lines), BLOCK_ROWS):
        reader.read(lines[at : at + BLOCK_ROWS], first_line + at, marks[at : at + BLOCK_ROWS])
    reader.finish()
    result.examples = len(lines) - result.blank_lines
    return reader.rows


class _RowReader:
    """Reads the lines of a chunk, a block at a time, and gathers its sound rows."""

    def __init__(self, options: ScanOptions, result: ChunkResult) -> None:
        self.rows: list[BatchRow] = []
        self._options = options
        self._result = result
        self._kind = options.kind
        self._plain = PlainRows()

    def read(self, block: Sequence[bytes], first: int, marks: Sequence[int]) -> None:
        result = self._result
        if (not block[0] or block[0].isspace()) and not b"".join(block).strip():  # a file may hold nothing else
            result.blank_lines += len(block)
            result.first_blank = result.first_blank or first
            return
        values = parse_block(block)
        if self._kind is None and self._options.find_kind:
            result.kind = self._kind = _first_kind(values, self._options)
        plain = self._kind in (None, "chat")
        taken = self._plain.take(block, values, first, marks) if plain else repeat(None)
        for number, raw, value, row in zip(count(first), block, values, taken, strict=False):
            if row is not None:
                self.rows.append(row)
                for fault in row.about.warnings:
                    result.log.add_fault(fault, number)
            elif not raw or raw.isspace():
                result.blank_lines += 1
                result.first_blank = result.first_blank or number
            else:
                self._read_carefully(number, raw, value)

    def finish(self) -> None:
        """Adds what is counted by the sequence of roles, once for each."""
        for roles, rows in self._plain.taken.items():
            self._result.add_kind("chat", rows)
            self._result.add_form(chat_form(roles))
            for role in roles:
                self._result.add_role(role, rows)

    def _read_carefully(self, number: int, raw: bytes, parsed: ParsedLine) -> None:
        result = self._result
        try:
            value = parse_line(raw) if parsed is UNPARSED else unambiguous(raw, parsed)
        except BrokenLine as broken:
            result.log.add(at_line(broken.fault, number))
            result.bad_rows += 1
            return
        result.add_kind(kind_of(value) or "unknown")
        found = [at_line(fault, number) for fault in row_faults(value, self._kind)]
        result.log.extend(found)
        if any(one.severity == "error" for one in found):
            result.bad_rows += 1
        elif isinstance(value, dict):
            about = row_texts(value)
            for role in about.roles:
                result.add_role(role)
            result.add_form(form_of(value))
            encoded = [text.encode() for text in about.texts]
            self.rows.append(BatchRow(number, about, about.texts, encoded, about.system, about.prompt, about.answer))


def _first_kind(values: Sequence[ParsedLine], options: ScanOptions) -> Kind | None:
    """The kind of the first row that has one, as the method takes it."""
    for value in values:
        kind = kind_of(value) if value is not UNPARSED else None
        if kind is not None:
            return "reinforcement" if kind == "chat" and options.reinforcement else kind
    return None


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


def _fill(result: ChunkResult, batch: Batch, options: ScanOptions) -> None:
    """The arrays with one entry per row; see `ChunkResult`."""
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
    result.before = _before_answer(counts, starts, learned, overhead).astype(np.int32)
    result.most_tokens = _most_tokens(batch, starts)
    result.systems = np.asarray(systems, np.uint64)
    result.prompts = np.asarray(prompts, np.int64)
    result.answers = np.asarray(answers, np.int64)
    result.odd_bytes |= set(np.flatnonzero(np.bincount(np.frombuffer(batch.odd, np.uint8), minlength=256)).tolist())


def _counts(batch: Batch, options: ScanOptions) -> NDArray[np.int32]:
    """Tokens of each text; a text that many rows share is counted once."""
    if not batch.copies:
        return np.asarray(count_tokens(batch.texts, options.encoding, options.threads), np.int32)
    counts = np.zeros(len(batch.texts), np.int32)
    texts = [batch.texts[number] for number in batch.searched]
    counts[batch.searched] = count_tokens(texts, options.encoding, options.threads)
    for number, others in batch.copies.items():
        counts[others] = counts[number]
    return counts


def _before_answer(
    counts: NDArray[np.int32], starts: NDArray[np.int64], learned: NDArray[np.bool_], overhead: NDArray[np.int64]
) -> NDArray[np.int64]:
    """OpenAI's tokens before the first learned text of each row, its share of the row's overhead included."""
    ends = np.append(starts[1:], len(counts))
    places = np.append(np.flatnonzero(learned), len(counts))
    first = np.minimum(places[np.searchsorted(places, starts)], ends)
    sums = np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))
    shares: NDArray[np.int64] = (overhead - 1) * (first - starts + 1) // (ends - starts)
    before: NDArray[np.int64] = sums[first] - sums[starts] + shares
    return before


def _most_tokens(batch: Batch, starts: NDArray[np.int64]) -> NDArray[np.int32]:
    """An upper bound of the tokens of each row in any base, without what the template adds: a token has a byte.

    Calls and tools are written out with tags and blanks, which at most double them.
    """
    lengths = np.fromiter(map(len, batch.encoded), np.int64, len(batch.texts))
    row_bytes: NDArray[np.int64] = np.add.reduceat(lengths, starts)
    row_texts_count = np.diff(np.append(starts, len(lengths)))
    careful = np.fromiter((isinstance(row.about, RowTexts) for row in batch.rows), bool, len(batch.rows))
    bound = np.where(careful, 2 * row_bytes + 128 * row_texts_count + 512, row_bytes + row_texts_count)
    return np.minimum(bound, np.iinfo(np.int32).max).astype(np.int32)
