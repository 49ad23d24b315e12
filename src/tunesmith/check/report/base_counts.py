"""Tokens as the base model counts them: every row of a small file, a seeded sample of a large one."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
import orjson
from numpy.typing import NDArray

from tunesmith.check.report.file_report import BaseCounts, distribution
from tunesmith.check.scan.result import ChunkResult
from tunesmith.errors import DataError
from tunesmith.render.renderer import Renderer
from tunesmith.rows.findings import FindingLog, finding
from tunesmith.rows.lines import chunks, read_chunk
from tunesmith.rows.row import PreferenceRow, ReinforcementRow, Row, build_row

Lines: TypeAlias = NDArray[np.int32]

EXACT_TOKENS = 2_500_000  # by OpenAI's count: about 10 MB of English, some 5 s of one core
SAMPLE_ROWS = 2_000
SUSPECT = 3  # a base needs at most about this many tokens for one of OpenAI's


@dataclass(slots=True)
class _Tally:
    """Rows rendered so far: tokens, learned tokens and cut tokens of each."""

    tokens: list[int] = field(default_factory=list)
    learned: list[int] = field(default_factory=list)
    cut: list[int] = field(default_factory=list)

    def add(self, tokens: int, learned: int, cut: int) -> None:
        self.tokens.append(tokens)
        self.learned.append(learned)
        self.cut.append(cut)


def count_base(
    path: Path, renderer: Renderer, result: ChunkResult, max_tokens: int | None, log: FindingLog
) -> BaseCounts | None:
    """The counts of the sound rows in `result`; rows over the limit go to `log`.

    In a large file every row that may be over the limit is rendered, and a sample stands for the others.
    """
    certain, sampled, others = _choose(result, max_tokens)
    fully, partly = _Tally(), _Tally()
    in_sample = set(sampled.tolist())
    for number, row in _rows(path, in_sample | set(certain.tolist())):
        tally = partly if number in in_sample else fully
        try:
            tokens, learned, cut = _lengths(row, renderer, max_tokens)
        except DataError as error:
            log.add(finding("answer_cut", number, error.message))
            result.bad_rows += 1
            continue
        tally.add(tokens, learned, cut)
        if cut:
            text = f"The row has {tokens + cut} tokens and the limit is {max_tokens}: {cut} are cut off its end."
            log.add(finding("over_limit", number, text, value=str(tokens + cut)))
    if not fully.tokens and not partly.tokens:
        return None
    return _counts(renderer.name, fully, partly, others)


def _counts(name: str, fully: _Tally, partly: _Tally, others: int) -> BaseCounts:
    """`partly` is scaled up to the `others` rows that it stands for."""
    seen = len(partly.tokens)
    scale = others / seen if seen else 0.0
    tokens = round(sum(fully.tokens) + sum(partly.tokens) * scale)
    spread = float(np.std(partly.tokens)) if seen else 0.0
    margin = 1.96 * spread / max(seen, 1) ** 0.5 * others / max(tokens, 1)
    cut = [*fully.cut, *partly.cut]
    return BaseCounts(
        renderer=name,
        exact=not seen,
        rows=seen + len(fully.tokens),
        tokens=tokens,
        learned_tokens=round(sum(fully.learned) + sum(partly.learned) * scale),
        cut_rows=sum(1 for lost in cut if lost),
        cut_tokens=sum(cut),
        margin=margin,
        lengths=distribution(np.asarray([*fully.tokens, *partly.tokens])),
    )


def _choose(result: ChunkResult, max_tokens: int | None) -> tuple[Lines, Lines, int]:
    """Lines to render because they must be, lines to render as a sample, and how many rows the sample stands for."""
    if int(result.tokens.sum(dtype=np.int64)) <= EXACT_TOKENS:
        return result.lines, result.lines[:0], 0
    suspect = result.tokens * SUSPECT > max_tokens if max_tokens is not None else np.zeros(result.lines.size, bool)
    others = result.lines[~suspect]
    sampled = np.random.default_rng(0).choice(others, min(SAMPLE_ROWS, others.size), replace=False)
    return result.lines[suspect], sampled, int(others.size)


def _rows(path: Path, wanted: set[int]) -> Iterator[tuple[int, Row]]:
    for chunk in chunks(path):
        if chunk.too_long:
            continue
        for number, raw in enumerate(read_chunk(path, chunk).split(b"\n"), start=chunk.first_line):
            if raw and number in wanted:  # the last piece is what follows the last line end: nothing
                yield number, build_row(orjson.loads(raw))


def _lengths(row: Row, renderer: Renderer, max_tokens: int | None) -> tuple[int, int, int]:
    """(tokens trained, tokens learned, tokens cut) of a row."""
    if isinstance(row, ReinforcementRow):
        return len(renderer.prompt(row.prompt, row.tools)), 0, 0
    if isinstance(row, PreferenceRow):
        pair = renderer.pair(row, max_tokens)
        both = (pair.preferred, pair.non_preferred)
        ids = sum(len(pair.prompt_ids) + len(one.ids) for one in both)
        return ids, int(sum(sum(one.weights) for one in both)), sum(one.truncated for one in both)
    rendered = renderer.row(row, max_tokens)
    return len(rendered.ids), int(sum(rendered.weights)), rendered.truncated
