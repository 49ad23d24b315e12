"""One chunk of lines -> counts, findings and per-row numbers. Pure; runs in this process or in a worker's.

Each row is looked at once. What must be known of the whole file (contradictions, totals) is left to `check`, which
gets small arrays: a few numbers per row, never its text.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
import orjson

from tunesmith.data.findings import Fault, Finding, FindingLog, at_line, finding, shorten
from tunesmith.data.rowfaults import Kind, kind_of, row_faults
from tunesmith.data.rowtexts import RowTexts, row_texts
from tunesmith.data.tokens import DEFAULT_ENCODING, count_tokens
from tunesmith.jsonvalue import JsonValue

EXPLAIN_BYTES = 1024 * 1024  # lines above this keep the fast parser's shorter message


@dataclass(frozen=True, slots=True)
class ScanOptions:
    kind: Kind | None = None
    encoding: str = DEFAULT_ENCODING
    max_tokens: int | None = None
    threads: int = 0


ARRAYS = ("lines", "messages", "tokens", "learned", "system_tokens", "systems", "prompts", "answers")


@dataclass(slots=True)
class ChunkResult:
    """What one chunk adds to the report. Arrays have one entry per row that could be counted."""

    examples: int = 0
    bad_rows: int = 0
    blank_lines: int = 0
    first_blank: int | None = None
    kinds: dict[str, int] = field(default_factory=dict)
    roles: dict[str, int] = field(default_factory=dict)
    log: FindingLog = field(default_factory=FindingLog)
    lines: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    messages: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    tokens: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    learned: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    system_tokens: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    systems: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))
    prompts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))
    answers: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))


def scan(data: bytes, first_line: int, options: ScanOptions) -> ChunkResult:
    """The findings and numbers of the lines in `data`, the first of which is line `first_line` of the file."""
    result = ChunkResult()
    batch = _Batch()
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    for number, raw in enumerate(lines, start=first_line):
        if not raw or raw.isspace():
            result.blank_lines += 1
            result.first_blank = result.first_blank or number
            continue
        result.examples += 1
        _scan_row(raw, number, options, result, batch)
    _count(batch, options, result)
    return result


@dataclass(slots=True)
class _Batch:
    """The texts of the chunk's rows, to be counted in one call."""

    rows: list[RowTexts] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)


def _scan_row(raw: bytes, number: int, options: ScanOptions, result: ChunkResult, batch: _Batch) -> None:
    try:
        value = parse(raw)
    except BrokenLine as broken:
        result.log.add(at_line(broken.fault, number))
        result.bad_rows += 1
        return
    kind = kind_of(value) or "unknown"
    result.kinds[kind] = result.kinds.get(kind, 0) + 1
    found = [at_line(fault, number) for fault in row_faults(value, options.kind)]
    result.log.extend(found)
    if any(one.severity == "error" for one in found):
        result.bad_rows += 1
    elif isinstance(value, dict):
        batch.rows.append(row_texts(value))
        batch.lines.append(number)


class BrokenLine(ValueError):
    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


def parse(raw: bytes) -> JsonValue:
    """The line as JSON; BrokenLine says in OpenAI's words what is wrong with it."""
    try:
        value: JsonValue = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BrokenLine(_explain(raw, error)) from None
    return value


def _explain(raw: bytes, error: orjson.JSONDecodeError) -> Fault:
    start = shorten(raw[:40].decode("utf-8", "replace"))
    try:
        text = raw.decode()
    except UnicodeDecodeError as bad:
        return Fault("not_utf8", "", f"The line is not UTF-8: byte 0x{raw[bad.start]:02x} at {bad.start}.", start)
    if "depth limit" in error.msg:
        return Fault("too_deep", "", "The JSON is nested more than 1,000 levels deep.", start)
    if len(raw) > EXPLAIN_BYTES:
        return Fault("invalid_json", "", f"The line contains invalid json: {error}.", start)
    try:
        json.loads(text, parse_constant=_refuse_constant)
    except _Constant as constant:
        return Fault("invalid_json", "", f"The line contains invalid json: {constant} is not a JSON value.", start)
    except (ValueError, RecursionError) as plain:
        return Fault("invalid_json", "", f"The line contains invalid json: {plain}.", start)
    if "surrogate" in error.msg:
        return Fault("lone_surrogate", "", f"The line holds half a surrogate pair: {error}.", start)
    return Fault("invalid_json", "", f"The line contains invalid json: {error}.", start)


class _Constant(ValueError):
    pass


def _refuse_constant(name: str) -> None:
    raise _Constant(name)


def _count(batch: _Batch, options: ScanOptions, result: ChunkResult) -> None:
    rows = batch.rows
    if not rows:
        return
    texts = [text for row in rows for text in row.texts]
    counts = np.asarray(count_tokens(texts, options.encoding, options.threads), np.int32)
    learned = np.asarray([flag for row in rows for flag in row.learned], bool)
    starts = np.cumsum([0, *(len(row.texts) for row in rows)])[:-1]
    result.lines = np.asarray(batch.lines, np.int32)
    result.messages = np.asarray([row.messages for row in rows], np.int32)
    result.tokens = np.add.reduceat(counts, starts) + np.asarray([row.overhead for row in rows], np.int32)
    result.learned = np.add.reduceat(np.where(learned, counts, 0), starts).astype(np.int32)
    result.system_tokens = np.asarray(
        [
            counts[start + row.system_at] if row.system_at is not None else 0
            for row, start in zip(rows, starts, strict=True)
        ],
        np.int32,
    )
    result.systems = np.asarray(
        [digest(row.texts[row.system_at].encode()) if row.system_at is not None else 0 for row in rows], np.uint64
    )
    result.prompts = np.asarray([digest(row.prompt) for row in rows], np.uint64)
    result.answers = np.asarray([digest(row.answer) for row in rows], np.uint64)
    for row in rows:
        for role in row.roles:
            result.roles[role] = result.roles.get(role, 0) + 1
    result.log.extend(_over_limit(rows, counts, starts, options, result))


def digest(text: bytes) -> int:
    """64 bits that are the same in every process, unlike `hash`."""
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "little")


def _over_limit(
    rows: list[RowTexts], counts: np.ndarray, starts: np.ndarray, options: ScanOptions, result: ChunkResult
) -> Iterator[Finding]:
    limit = options.max_tokens
    if limit is None:
        return
    for index in np.flatnonzero(result.tokens > limit):
        row, start, total = rows[index], starts[index], int(result.tokens[index])
        before = sum(int(counts[start + at]) for at in range(row.first_learned)) + row.overhead_before_answer
        line = int(result.lines[index])
        if before >= limit:
            text = f"The row has {total} tokens, {before} of them before the answer; the limit is {limit}."
            yield finding("answer_cut", line, text, value=str(total))
        else:
            text = f"The row has {total} tokens and the limit is {limit}: {total - limit} are cut off its end."
            yield finding("over_limit", line, text, value=str(total))
