"""Counts tokens as the base model does.

Every row of a small file is counted, and a seeded sample of a large one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tunesmith.check.report.file_report import BaseCounts, distribution
from tunesmith.check.scan.result import ChunkResult
from tunesmith.check.scan.row_forms import REASONED, specimen
from tunesmith.errors import DataError
from tunesmith.render.faults import RenderError
from tunesmith.render.renderer import Renderer
from tunesmith.rows.findings import Finding, FindingLog, finding
from tunesmith.rows.raw_row import iter_rows
from tunesmith.rows.row import ChatRow, PreferenceRow, ReinforcementRow, Row, build_row

Lines: TypeAlias = NDArray[np.int32]

EXACT_TOKENS = 2_500_000  # by OpenAI's count: about 10 MB of English, some 5 s of one core
SAMPLE_ROWS = 2_000
SUSPECT = 3  # a base needs at most about this many tokens for one of OpenAI's


class RowLengths(NamedTuple):
    """What is trained of a row.

    Tokens, those that are learned, those that are cut, and in how many examples.
    """

    tokens: int
    learned: int
    cut: int
    examples: int = 1


@dataclass(slots=True)
class _Tally:
    """Rows rendered so far: tokens, learned tokens, cut tokens and examples of each."""

    tokens: list[int] = field(default_factory=list)
    learned: list[int] = field(default_factory=list)
    cut: list[int] = field(default_factory=list)
    examples: list[int] = field(default_factory=list)

    def add(self, row: RowLengths) -> None:
        self.tokens.append(row.tokens)
        self.learned.append(row.learned)
        self.cut.append(row.cut)
        self.examples.append(row.examples)

    @property
    def split(self) -> int:
        """How many rows are more than one example."""
        return sum(1 for examples in self.examples if examples > 1)


@dataclass(frozen=True, slots=True)
class BaseLimits:
    """The base that rows are trained on, and its limit.

    `max_tokens` is the most tokens of a row that are trained; None: no limit.
    """

    renderer: Renderer
    max_tokens: int | None

    def lengths(self, row: Row) -> RowLengths:
        """What is trained of a row.

        Raises DataError when it cannot be trained.
        """
        renderer, limit = self.renderer, self.max_tokens
        if isinstance(row, ReinforcementRow):
            return RowLengths(len(renderer.prompt(row.prompt, row.tools)), 0, 0)
        if isinstance(row, PreferenceRow):
            pair = renderer.pair(row, limit)
            both = (pair.preferred, pair.non_preferred)
            ids = sum(len(pair.prompt_ids) + len(one.ids) for one in both)
            return RowLengths(ids, int(sum(sum(one.weights) for one in both)), sum(one.truncated for one in both))
        rendered = renderer.examples(row, limit)
        return RowLengths(rendered.tokens, rendered.learned, rendered.truncated, len(rendered.examples))


def base_findings(result: ChunkResult, renderer: Renderer) -> Iterator[Finding]:
    """Findings about a file and a base as a whole.

    Chats where the base has no template, and reasoning where it reads none.
    """
    fault = renderer.chat_fault
    if fault is not None and result.kind not in (None, "completion"):
        yield replace(finding(fault.finding, None, f"The file holds {result.kind} rows. {fault.what}"), fix=fault.fix)
    elif not renderer.reads_reasoning and any(REASONED in form for form in result.forms or ()):
        yield finding("reasoning_not_trained", None, "Messages have reasoning_content, and the base is not shown it.")


def count_base(
    path: Path, limits: BaseLimits, result: ChunkResult, log: FindingLog, *, totals: bool
) -> tuple[BaseCounts | None, int]:
    """The base's counts of the sound rows, and how many cannot be trained.

    Faults go to `log`.

    In a large file every row that may be over the limit is rendered, and a sample stands for the others. Without
    `totals` there are no counts, and only rows that may have a fault are read again.
    """
    choice = _choose(result, limits.max_tokens) if totals else _doubtful(result, limits)
    fully, partly = _Tally(), _Tally()
    in_sample = set(choice.sampled.tolist())
    refused = 0
    for raw in iter_rows(path, in_sample | set(choice.certain.tolist())) if choice.rows else ():
        try:
            row = build_row(raw.value())
            lengths = limits.lengths(row)
        except DataError as error:
            log.add(_refusal(raw.line, error))
            refused += 1
            continue
        (partly if raw.line in in_sample else fully).add(lengths)
        for found in _left_out(raw.line, row, limits.renderer):
            log.add(found)
        if lengths.cut:
            log.add(_cut_finding(raw.line, lengths.tokens + lengths.cut, limits.max_tokens))
    if not totals or not (fully.tokens or partly.tokens):
        return None, refused
    return _counts(limits.renderer.name, fully, partly, choice.others), refused


def _left_out(line: int, row: Row, renderer: Renderer) -> Iterator[Finding]:
    if isinstance(row, ChatRow):
        for at, what in renderer.left_out(row):
            text = f"The base's chat template leaves out the {what} of message {at}, which stands beside calls."
            yield finding("beside_calls_not_trained", line, text)


def _refusal(line: int, error: DataError) -> Finding:
    if not isinstance(error, RenderError):
        return finding("not_renderable", line, error.message)
    return replace(finding(error.finding, line, error.what), fix=error.fix)


def _cut_finding(line: int, tokens: int, limit: int | None) -> Finding:
    cut = tokens - (limit or 0)
    text = f"The row has {tokens} tokens and the limit is {limit}: {cut} are cut off its end."
    return finding("over_limit", line, text, value=str(tokens))


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
        split_rows=round(fully.split + partly.split * scale),
        trained_examples=round(sum(fully.examples) + sum(partly.examples) * scale),
        lengths=distribution(np.asarray([*fully.tokens, *partly.tokens])),
    )


@dataclass(frozen=True, slots=True)
class _Choice:
    """Lines to render because they must be, lines to render as a sample, and how many rows the sample stands for."""

    certain: Lines
    sampled: Lines
    others: int = 0

    @property
    def rows(self) -> int:
        return self.certain.size + self.sampled.size


def _choose(result: ChunkResult, max_tokens: int | None) -> _Choice:
    if int(result.tokens.sum(dtype=np.int64)) <= EXACT_TOKENS:
        return _Choice(result.lines, result.lines[:0])
    suspect = _suspect(result, max_tokens)
    others = result.lines[~suspect]
    sampled = np.random.default_rng(0).choice(others, min(SAMPLE_ROWS, others.size), replace=False)
    return _Choice(result.lines[suspect], sampled, int(others.size))


def _suspect(result: ChunkResult, max_tokens: int | None) -> NDArray[np.bool_]:
    if max_tokens is None:
        return np.zeros(result.lines.size, bool)
    return result.tokens * SUSPECT > max_tokens


def _doubtful(result: ChunkResult, limits: BaseLimits) -> _Choice:
    """The rows that may be over the limit, or all where the base may refuse the form of some."""
    added = _template_tokens(result.forms, limits)
    if added is None:
        return _choose(result, limits.max_tokens)
    doubtful = result.most_tokens > (limits.max_tokens or np.iinfo(np.int32).max) - added
    if int(result.tokens.sum(dtype=np.int64)) > EXACT_TOKENS:
        doubtful &= _suspect(result, limits.max_tokens)
    return _Choice(result.lines[doubtful], result.lines[:0])


def _template_tokens(forms: set[str] | None, limits: BaseLimits) -> int | None:
    """The most tokens that the base's template adds to a row of these forms; None where a form cannot be trained."""
    unlimited = BaseLimits(limits.renderer, None)
    try:
        return None if forms is None else max((unlimited.lengths(specimen(form)).tokens for form in forms), default=0)
    except DataError:
        return None
