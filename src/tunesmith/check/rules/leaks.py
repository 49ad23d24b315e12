"""Leaks: rows of the validation file that are in the training file too.

Exactly, or nearly.

A validation loss measured on rows that were trained on says nothing. The definitions are those of `duplicates`.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tunesmith.check.rules.duplicates import (
    COMPARISONS_PER_ROW,
    MIN_COMPARISONS,
    ROW_SKETCHES,
    THRESHOLD,
    Pair,
    likely,
    stacked,
)
from tunesmith.check.rules.shingle_reader import ShingleReader
from tunesmith.check.rules.shingles import BANDS, SLOTS, band_keys, jaccard
from tunesmith.check.scan.file_scan import FileScan, scan_file
from tunesmith.check.scan.result import ChunkResult, ScanOptions
from tunesmith.jsonvalue import JsonObject
from tunesmith.rows.findings import Finding, finding

CANDIDATES = 64  # training rows of one key that a validation row is compared with
BLOCK = 10_000  # validation rows looked at together; bounds what is held of their candidates


@dataclass(frozen=True, slots=True)
class Index:
    """What is known of a file's rows.

    `whole` has lines and digests, `rows` the sketches (rows, SKETCH).
    """

    path: Path
    whole: ChunkResult
    rows: NDArray[np.uint8]


@dataclass(slots=True)
class Leaks:
    """The rows of a validation file that are also in the training file.

    `exact` and `near` are (line of the validation file, line of the training file, similarity).
    """

    rows: int
    exact: list[Pair] = field(default_factory=list)
    near: list[Pair] = field(default_factory=list)
    complete: bool = True

    def findings(self) -> Iterator[Finding]:
        """A warning for each, at its line of the training file."""
        for line, other, _ in self.exact:
            text = f"The row is also in the validation file, in line {line}."
            yield finding("leak", other, text, value=str(line))
        for line, other, similarity in self.near:
            text = f"Line {line} of the validation file is nearly the same (similarity {similarity:.2f})."
            yield finding("near_leak", other, text, value=str(line))

    def to_json(self) -> JsonObject:
        """The section `leaks` of a report."""
        return {
            "validation_rows": self.rows,
            "threshold": THRESHOLD,
            "exact": len(self.exact),
            "near": len(self.near),
            "complete": self.complete,
        }


def find_leaks(training: Path, validation: Path) -> Leaks:
    """The leaks between two files, both read here; rows with errors are left out."""
    return compare(index_file(training), index_file(validation))


def index_file(path: Path) -> Index:
    """The index of a file, which is read for it."""
    return index_of(path, scan_file(path, ScanOptions(find_kind=True, analysers=(ROW_SKETCHES,))))


def index_of(path: Path, scan: FileScan) -> Index:
    """The index of a file that was scanned with the analyser `row_sketches`."""
    kept = scan.rows.partials.get(ROW_SKETCHES)  # none of a file that could not be read
    return Index(path, scan.rows, stacked([kept.arrays["sketches"]] if kept else []))


def compare(training: Index, validation: Index) -> Leaks:
    """The leaks between two indexed files."""
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
    known, wanted = _digests(training), _digests(validation)
    order = np.argsort(known, kind="stable")
    at = np.minimum(np.searchsorted(known[order], wanted), len(order) - 1)
    same = np.flatnonzero(known[order][at] == wanted)
    return dict(zip(same.tolist(), order[at[same]].tolist(), strict=True))


def _digests(whole: ChunkResult) -> NDArray[np.uint64]:
    mixed: NDArray[np.uint64] = whole.prompts.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15) ^ whole.answers.view(
        np.uint64
    )
    return mixed


def _near(training: Index, validation: Index, exact: dict[int, int], found: Leaks) -> None:
    rows = np.asarray([row for row in range(found.rows) if row not in exact], np.int64)
    rows = rows[validation.rows[rows, SLOTS] != 0]
    orders = [np.argsort(band_keys(training.rows, band), kind="stable").astype(np.int32) for band in range(BANDS)]
    left = max(MIN_COMPARISONS, COMPARISONS_PER_ROW * found.rows)
    with (
        closing(ShingleReader(training.path, training.whole.lines)) as theirs,
        closing(ShingleReader(validation.path, validation.whole.lines)) as ours,
    ):
        for start in range(0, len(rows), BLOCK):
            for row, others in _candidates(training.rows, validation.rows, rows[start : start + BLOCK], orders):
                for other in others:
                    left -= 1
                    similarity = jaccard(ours.shingles(row), theirs.shingles(other))
                    if similarity >= THRESHOLD:
                        lines = int(validation.whole.lines[row]), int(training.whole.lines[other])
                        found.near.append((*lines, similarity))
                        break
                if left < 0:
                    found.complete = False
                    return


def _candidates(
    training: NDArray[np.uint8], validation: NDArray[np.uint8], rows: NDArray[np.int64], orders: list[NDArray[np.int32]]
) -> Iterator[tuple[int, list[int]]]:
    """Each row with the training rows that may be similar enough, the likeliest first."""
    shared: dict[int, set[int]] = {}
    for band, order in enumerate(orders):
        keys = band_keys(training, band)[order]
        wanted = band_keys(validation[rows], band)
        starts = np.searchsorted(keys, wanted)
        ends = np.searchsorted(keys, wanted, side="right")
        hit = np.flatnonzero(ends > starts)
        for row, start, end in zip(rows[hit].tolist(), starts[hit].tolist(), ends[hit].tolist(), strict=True):
            shared.setdefault(row, set()).update(order[start : min(end, start + CANDIDATES)].tolist())
    for row, others in sorted(shared.items()):
        yield row, likely(validation[row], training, sorted(others), THRESHOLD)
