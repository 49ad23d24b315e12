"""One chunk of lines -> counts, findings and a few numbers per row. Pure; runs in this process or in a worker's.

Each row is looked at once. A chat row whose messages have a role and a content and nothing else takes the fast path;
everything else, and every row in doubt, takes the careful one, which explains. What must be known of the whole file
(contradictions, totals) is left to `check`, which gets small arrays and never a row's text.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from operator import itemgetter

import numpy as np
import orjson

from tunesmith.data.analysers import analyse
from tunesmith.data.batch import Batch
from tunesmith.data.findings import Finding, at_line, finding
from tunesmith.data.parse import BrokenLine, parse_line
from tunesmith.data.result import ChunkResult, ScanOptions
from tunesmith.data.rowfaults import kind_of, row_faults
from tunesmith.data.rowtexts import row_texts
from tunesmith.data.shapes import Shape, digest, shape_of
from tunesmith.data.tokens import count_tokens

_role_and_content = itemgetter("role", "content")


def scan(data: bytes, first_line: int, options: ScanOptions) -> ChunkResult:
    """The findings and numbers of the lines in `data`, the first of which is line `first_line` of the file."""
    with _no_collector():
        return _scan(data, first_line, options)


def _scan(data: bytes, first_line: int, options: ScanOptions) -> ChunkResult:
    result, batch = ChunkResult(), Batch()
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    fast = _FastRows(batch, result) if options.kind in (None, "chat") else None
    for number, raw, marks in zip(count(first_line), lines, _key_marks(data, len(lines)), strict=False):
        if not raw or raw.isspace():
            result.blank_lines += 1
            result.first_blank = result.first_blank or number
        elif fast is None or not fast.take(raw, number, marks):
            _careful_row(raw, number, options, result, batch)
    if fast is not None:
        fast.close()
    result.examples = len(lines) - result.blank_lines
    _fill(result, batch, options)
    analyse(data, batch, options.analysers, result)
    return result


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


class _FastRows:
    """Takes plain chat rows; what `take` declines has not been touched."""

    def __init__(self, batch: Batch, result: ChunkResult) -> None:
        self._batch, self._result = batch, result
        self._shapes: dict[tuple[object, ...], Shape | None] = {}
        self._taken: dict[tuple[object, ...], int] = {}

    def take(self, raw: bytes, number: int, marks: int) -> bool:
        """`marks` is how often `":` stands in the line: twice a message and once, if every key stands once."""
        try:
            row = orjson.loads(raw)
            messages = row["messages"]
            roles, contents = zip(*map(_role_and_content, messages), strict=True)
            shape = self._shapes[roles] if roles in self._shapes else self._new_shape(roles)
        except (ValueError, KeyError, TypeError, IndexError):
            return False
        size = len(roles)
        if (
            shape is None
            or len(row) != 1
            or "" in contents
            or sum(map(len, messages)) != 2 * size
            or (marks != 2 * size + 1 and not _once_each(raw, size))
        ):
            return False
        try:
            if any(map(str.isspace, contents)):
                return False
            encoded = [content.encode() for content in contents]
        except TypeError:  # a content that is no text
            return False
        prompt = digest(encoded[: shape.answer_at], shape.seed)
        answer = digest(encoded[shape.answer_at :], shape.seed)
        system = digest([encoded[shape.system_at]]) if shape.system_at >= 0 else 0
        self._batch.add_plain(number, shape, contents, encoded, system, (prompt, answer))
        self._taken[roles] = self._taken.get(roles, 0) + 1
        for fault in shape.warnings:
            self._result.log.add_fault(fault, number)
        return True

    def close(self) -> None:
        for roles, rows in self._taken.items():
            self._result.add_kind("chat", rows)
            for role in roles:
                self._result.add_role(str(role), rows)

    def _new_shape(self, roles: tuple[object, ...]) -> Shape | None:
        shape = self._shapes[roles] = shape_of(roles)
        return shape


def _key_marks(data: bytes, lines: int) -> list[int]:
    """How often `":` stands in each line; for all lines at once, which is three times as fast as `bytes.count`."""
    codes = np.frombuffer(data, np.uint8)
    marks = np.flatnonzero((codes[:-1] == ord('"')) & (codes[1:] == ord(":")))
    ends = np.flatnonzero(codes == ord("\n"))
    found: list[int] = np.bincount(np.searchsorted(ends, marks), minlength=lines).tolist()
    return found


def _once_each(raw: bytes, size: int) -> bool:
    """Whether the keys of a plain row stand once each, when its texts hold something that looks like a key."""
    return raw.count(b'"messages"') == 1 and raw.count(b'"role"') == size and raw.count(b'"content"') == size


def _careful_row(raw: bytes, number: int, options: ScanOptions, result: ChunkResult, batch: Batch) -> None:
    try:
        value = parse_line(raw)
    except BrokenLine as broken:
        result.log.add(at_line(broken.fault, number))
        result.bad_rows += 1
        return
    result.add_kind(kind_of(value) or "unknown")
    found = [at_line(fault, number) for fault in row_faults(value, options.kind)]
    result.log.extend(found)
    if any(one.severity == "error" for one in found):
        result.bad_rows += 1
    elif isinstance(value, dict):
        texts = row_texts(value)
        batch.add_texts(number, texts)
        for role in texts.roles:
            result.add_role(role)


def _fill(result: ChunkResult, batch: Batch, options: ScanOptions) -> None:
    """The per-row arrays, and findings that need token counts."""
    if not batch.lines:
        return
    counts = np.asarray(count_tokens(batch.texts, options.encoding, options.threads), np.int32)
    starts = np.asarray(batch.starts)
    learned = np.where(np.asarray(batch.learned), counts, 0)
    system_at = np.asarray(batch.system_at)
    result.lines = np.asarray(batch.lines, np.int32)
    result.messages = np.asarray(batch.messages, np.int32)
    result.tokens = (np.add.reduceat(counts, starts) + np.asarray(batch.overhead)).astype(np.int32)
    result.learned = np.add.reduceat(learned, starts).astype(np.int32)
    result.system_tokens = np.where(system_at >= 0, counts[starts + system_at], 0).astype(np.int32)
    result.systems = np.asarray(batch.systems, np.uint64)
    result.prompts = np.asarray(batch.prompts, np.uint64)
    result.answers = np.asarray(batch.answers, np.uint64)
    if options.max_tokens is not None:
        result.log.extend(_over_limit(batch, counts, options.max_tokens, result))


def _over_limit(batch: Batch, counts: np.ndarray, limit: int, result: ChunkResult) -> Iterator[Finding]:
    for row in np.flatnonzero(result.tokens > limit).tolist():
        start, length, total = batch.starts[row], batch.lengths[row], int(result.tokens[row])
        first = next((at for at in range(length) if batch.learned[start + at]), length)
        before = int(counts[start : start + first].sum()) + (batch.overhead[row] - 1) * (first + 1) // length
        if before >= limit:
            text = f"The row has {total} tokens, {before} of them before the answer; the limit is {limit}."
            yield finding("answer_cut", batch.lines[row], text, value=str(total))
            result.bad_rows += 1
        else:
            text = f"The row has {total} tokens and the limit is {limit}: {total - limit} are cut off its end."
            yield finding("over_limit", batch.lines[row], text, value=str(total))
