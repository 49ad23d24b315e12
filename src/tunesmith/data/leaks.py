"""Rows of the validation file that stand in the training file too, exactly or nearly.

A validation loss measured on rows that were trained on says nothing. The definitions are those of `duplicates`.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tunesmith.data.duplicates import (
    COMPARISONS_PER_ROW,
    LEADERS,
    MIN_COMPARISONS,
    THRESHOLD,
    Pair,
    stacked,
)
from tunesmith.data.findings import Finding, FindingLog, finding
from tunesmith.data.lines import chunks, read_chunk
from tunesmith.data.result import ChunkResult, ScanOptions, merged
from tunesmith.data.rowwords import RowWords
from tunesmith.data.scan import scan
from tunesmith.data.shingles import BANDS, jaccard
from tunesmith.jsonvalue import JsonObject

BLOCK = 10_000  # validation rows looked at together; bounds what is held of their candidates


@dataclass(frozen=True, slots=True)
class Index:
    """What is known of a file's rows: `whole` has lines and digests, `keys` the hash keys (rows, BANDS)."""

    path: Path
    whole: ChunkResult
    keys: NDArray[np.uint32]


@dataclass(slots=True)
class Leaks:
    """`exact` and `near` are (line of the validation file, line of the training file, similarity)."""

    rows: int
    exact: list[Pair] = field(default_factory=list)
    near: list[Pair] = field(default_factory=list)
    complete: bool = True

    def findings(self) -> Iterator[Finding]:
        """Lines are the validation file's."""
        for line, other, _ in self.exact:
            text = f"The row of the validation file is the same as line {other} of the training file."
            yield finding("leak", line, text, value=str(other))
        for line, other, similarity in self.near:
            text = (
                f"The row of the validation file is nearly the same as line {other} of the training file "
                f"(similarity {similarity:.2f})."
            )
            yield finding("near_leak", line, text, value=str(other))

    def to_json(self) -> JsonObject:
        return {
            "validation_rows": self.rows,
            "threshold": THRESHOLD,
            "exact": len(self.exact),
            "near": len(self.near),
            "complete": self.complete,
        }


def find_leaks(training: Path, validation: Path) -> Leaks:
    """The leaks between two checked files; rows with errors are left out."""
    return compare(index_file(training), index_file(validation))


def index_file(path: Path) -> Index:
    parts = [
        scan(read_chunk(path, chunk), chunk.first_line, ScanOptions(analysers=("near_duplicates",)))
        for chunk in chunks(path)
        if not chunk.too_long
    ]
    keys = stacked([part.partials.pop("near_duplicates").arrays["keys"] for part in parts])
    whole = merged(parts, FindingLog())
    whole.path = path
    return Index(path, whole, keys)


def compare(training: Index, validation: Index) -> Leaks:
    found = Leaks(rows=len(validation.whole.lines))
    if "reinforcement" in validation.whole.kinds:  # equal prompts with different items are different rows there
        return found
    exact = _exact(training.whole, validation.whole)
    found.exact = [
        (int(validation.whole.lines[row]), int(training.whole.lines[other]), 1.0) for row, other in exact.items()
    ]
    _near(training, validation, exact, found)
    return found


def _exact(training: ChunkResult, validation: ChunkResult) -> dict[int, int]:
    """Validation row -> the first training row that equals it."""
    if not len(training.lines):
        return {}
    known, asked = _digests(training), _digests(validation)
    order = np.argsort(known, kind="stable")
    at = np.minimum(np.searchsorted(known[order], asked), len(order) - 1)
    same = np.flatnonzero(known[order][at] == asked)
    return dict(zip(same.tolist(), order[at[same]].tolist(), strict=True))


def _digests(whole: ChunkResult) -> NDArray[np.uint64]:
    mixed: NDArray[np.uint64] = whole.prompts * np.uint64(0x9E3779B97F4A7C15) ^ whole.answers
    return mixed


def _near(training: Index, validation: Index, exact: dict[int, int], found: Leaks) -> None:
    rows = np.asarray([row for row in range(found.rows) if row not in exact], np.int64)
    rows = rows[validation.keys[rows, 0] != 0]
    orders = [np.argsort(training.keys[:, band], kind="stable").astype(np.int32) for band in range(BANDS)]
    left = max(MIN_COMPARISONS, COMPARISONS_PER_ROW * found.rows)
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        left -= _near_block(training, validation, block, orders, found)
        if left < 0 and start + BLOCK < len(rows):
            found.complete = False
            return


def _near_block(
    training: Index, validation: Index, rows: NDArray[np.int64], orders: list[NDArray[np.int32]], found: Leaks
) -> int:
    """Adds the leaks among `rows` of the validation file and gives back how many comparisons that took."""
    candidates = _candidates(training.keys, validation.keys, rows, orders)
    wanted = np.zeros(len(training.keys), bool)
    wanted[[other for others in candidates.values() for other in others]] = True
    asked = np.zeros(len(validation.keys), bool)
    asked[list(candidates)] = True
    made = 0
    with (
        closing(RowWords(training.path, training.whole.lines, wanted)) as theirs,
        closing(RowWords(validation.path, validation.whole.lines, asked)) as ours,
    ):
        for row, others in candidates.items():
            for other in others:
                made += 1
                similarity = jaccard(ours.shingles(row), theirs.shingles(other))
                if similarity >= THRESHOLD:
                    lines = int(validation.whole.lines[row]), int(training.whole.lines[other])
                    found.near.append((*lines, similarity))
                    break
    return made


def _candidates(
    training: NDArray[np.uint32], asked: NDArray[np.uint32], rows: NDArray[np.int64], orders: list[NDArray[np.int32]]
) -> dict[int, list[int]]:
    """Row -> training rows that share a key with it, those that share most keys first; `LEADERS` at most."""
    shared: dict[int, dict[int, int]] = {}
    for band, order in enumerate(orders):
        keys = training[order, band]
        starts = np.searchsorted(keys, asked[rows, band])
        ends = np.searchsorted(keys, asked[rows, band], side="right")
        hit = np.flatnonzero(ends > starts)
        for row, start, end in zip(rows[hit].tolist(), starts[hit].tolist(), ends[hit].tolist(), strict=True):
            counts = shared.setdefault(row, {})
            for other in order[start : min(end, start + LEADERS)].tolist():
                counts[other] = counts.get(other, 0) + 1
    return {
        row: sorted(counts, key=lambda other: (-counts[other], other))[:LEADERS]
        for row, counts in sorted(shared.items())
    }
