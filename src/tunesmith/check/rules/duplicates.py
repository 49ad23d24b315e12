"""Duplicate rows in one file, exact and near.

Exact: prompt and answer have the same digests (64 bits each; key order and white space between keys do not matter).
Near: the shingle sets of two rows (`shingles`) have a Jaccard similarity of at least `THRESHOLD`. Candidates agree in
a band of their sketches; those whose sketches agree well enough are read again from the file and compared in full, so
that what is reported is so. `bench/checking/duplicates.py` prints recall and precision on a planted set.

Memory: 61 bytes of sketch per row travel and stay, 36 more per row while one band is sorted; texts are read again from
disk, at most `CACHED_ROWS` at a time. 500 MB of 700-byte rows: about 80 MB. Time: at most `COMPARISONS_PER_ROW` full
comparisons per row on average; where that runs out the report says `"complete": false` and its numbers are a lower
bound.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tunesmith.check.rules.shingle_reader import ShingleReader
from tunesmith.check.rules.shingles import BANDS, SKETCH, SLOTS, band_keys, batch_words, estimates, sketches
from tunesmith.check.scan.batch import Batch
from tunesmith.check.scan.result import ChunkResult, Partial, repeated
from tunesmith.jsonvalue import JsonObject
from tunesmith.rows.findings import Finding, finding

THRESHOLD = 0.8
LEADERS = 8  # rows of one bucket that a newcomer is compared with: so many that repeat none, so many that do
MARGIN = 0.13  # 2.5 standard deviations of an estimate: 0.6 % of the pairs just at the threshold are missed
COMPARISONS_PER_ROW = 4
MIN_COMPARISONS = 20_000
ROW_SKETCHES = "row_sketches"
SHOWN_GROUPS = 20
SHOWN_LINES = 10

Pair = tuple[int, int, float]  # row, the earlier row that it repeats, similarity


class ExactDuplicates:
    """The analyser `duplicates`: costs next to nothing, the digests are there."""

    def analyse(self, data: bytes, batch: Batch, result: ChunkResult) -> Partial:
        """Nothing: the digests are there already."""
        return Partial()

    def finish(self, partials: Sequence[Partial], whole: ChunkResult) -> tuple[list[Finding], JsonObject]:
        """A warning for each row that equals an earlier one."""
        found = find_exact(whole)
        return [_exact_finding(*pair) for pair in found.pairs], found.to_json()


class NearDuplicates:
    """The analyser `near_duplicates`, for rows that are not exact duplicates."""

    def analyse(self, data: bytes, batch: Batch, result: ChunkResult) -> Partial:
        """The sketches of the rows."""
        return Partial(arrays={"sketches": sketches(batch_words(batch))})

    def finish(self, partials: Sequence[Partial], whole: ChunkResult) -> tuple[list[Finding], JsonObject]:
        """A warning for each row that nearly repeats an earlier one."""
        found = find_near(whole, stacked([partial.arrays.pop("sketches") for partial in partials]))
        return [_near_finding(*pair) for pair in found.pairs], found.to_json()


class RowSketches:
    """The analyser `row_sketches`: keeps what the search for leaks needs.

    It reports nothing.
    """

    def analyse(self, data: bytes, batch: Batch, result: ChunkResult) -> Partial:
        """The sketches of the rows."""
        return Partial(arrays={"sketches": sketches(batch_words(batch))})

    def finish(self, partials: Sequence[Partial], whole: ChunkResult) -> tuple[list[Finding], JsonObject]:
        """Keeps the sketches of all rows beside the report."""
        parts = [partial.arrays.pop("sketches") for partial in partials]
        whole.partials[ROW_SKETCHES] = Partial(arrays={"sketches": stacked(parts)})
        return [], {}


@dataclass(slots=True)
class Found:
    """The duplicates of a file.

    `pairs` are (line, line of the earlier row, similarity), by line; `groups` are the lines that belong together.
    """

    pairs: list[Pair] = field(default_factory=list)
    groups: list[list[int]] = field(default_factory=list)
    threshold: float = 1.0
    comparisons: int = 0
    complete: bool = True

    def to_json(self) -> JsonObject:
        """The analyser's section of a report."""
        shown = sorted(self.groups, key=len, reverse=True)[:SHOWN_GROUPS]
        return {
            "rows": len(self.pairs),
            "threshold": self.threshold,
            "groups": len(self.groups),
            "largest_groups": [{"rows": len(group), "lines": list(group[:SHOWN_LINES])} for group in shown],
            "comparisons": self.comparisons,
            "complete": self.complete,
        }


def stacked(parts: Sequence[NDArray[np.generic]]) -> NDArray[np.uint8]:
    """The sketches of all chunks, (rows, SKETCH)."""
    return np.concatenate([np.zeros((0, SKETCH), np.uint8), *(part.reshape(-1, SKETCH) for part in parts)])


def find_exact(whole: ChunkResult) -> Found:
    """Rows whose prompt and answer equal an earlier row's."""
    if _has_items(whole):
        return Found()
    rows, first = _equals(whole)
    return _found([(row, other, 1.0) for row, other in zip(rows.tolist(), first.tolist(), strict=True)], whole.lines)


def find_near(whole: ChunkResult, rows: NDArray[np.uint8], threshold: float = THRESHOLD) -> Found:
    """Rows that nearly repeat an earlier one.

    `rows` are the sketches of all rows; `whole.path` is read again for full comparisons.
    """
    if _has_items(whole) or whole.path is None:
        return Found(threshold=threshold, complete=False)
    rows[_equals(whole)[0], SLOTS] = 0  # exact duplicates are reported already
    budget = max(MIN_COMPARISONS, COMPARISONS_PER_ROW * len(rows))
    pairs, comparisons, complete = near_pairs(rows, whole.lines, whole.path, threshold, budget)
    found = _found(pairs, whole.lines)
    found.threshold, found.comparisons, found.complete = threshold, comparisons, complete
    return found


def _has_items(whole: ChunkResult) -> bool:
    """Reinforcement rows with equal prompts differ in their items, which are not among the texts."""
    return "reinforcement" in whole.kinds


def _equals(whole: ChunkResult) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(rows, the first row that each of them equals), of the rows that equal an earlier one, ascending."""
    rows = repeated(whole.prompts)
    rows = rows[np.lexsort((whole.answers[rows], whole.prompts[rows]))]
    prompts, answers = whole.prompts[rows], whole.answers[rows]
    new = np.ones(len(rows), bool)
    new[1:] = (prompts[1:] != prompts[:-1]) | (answers[1:] != answers[:-1])
    # lexsort is stable: the first of a run of equals is the first in the file
    first = rows[np.maximum.accumulate(np.where(new, np.arange(len(rows)), 0))]
    order = np.argsort(rows[~new])
    return rows[~new][order], first[~new][order]


def near_pairs(
    rows: NDArray[np.uint8], lines: NDArray[np.int32], path: Path, threshold: float, budget: int
) -> tuple[list[Pair], int, bool]:
    """(pairs, comparisons made, whether all were made). A row is paired once."""
    paired: set[int] = set()
    pairs: list[Pair] = []
    left = budget
    with closing(ShingleReader(path, lines)) as reader:
        for bucket in buckets(rows):
            leaders: list[int] = []
            followers: deque[int] = deque(maxlen=LEADERS)  # a row may repeat what only repeats another
            for row in bucket:
                if row in paired:
                    followers.append(row)
                    continue
                others = likely(rows[row], rows, [*leaders, *followers], threshold)
                made, pair = _repeats(row, others, reader, threshold)
                left -= made
                if left < 0:
                    return pairs, budget, False
                if pair is not None:
                    pairs.append(pair)
                    paired.add(row)
                    followers.append(row)
                elif len(leaders) < LEADERS:
                    leaders.append(row)
    return pairs, budget - left, True


def likely(sketch: NDArray[np.uint8], rows: NDArray[np.uint8], others: Sequence[int], threshold: float) -> list[int]:
    """The `others` that may be similar enough by their sketches, likeliest first."""
    if not others:
        return []
    shares = estimates(sketch, rows[others])
    order = np.argsort(-shares, kind="stable")
    return [others[index] for index in order.tolist() if shares[index] >= threshold - MARGIN]


def _repeats(row: int, others: Sequence[int], reader: ShingleReader, threshold: float) -> tuple[int, Pair | None]:
    """How many comparisons it took, and the first of `others` that `row` repeats."""
    for made, other in enumerate(others, start=1):
        similarity = reader.similarity(row, other)
        if similarity >= threshold:
            return made, (row, other, similarity)
    return len(others), None


def buckets(rows: NDArray[np.uint8]) -> Iterator[list[int]]:
    """Rows that share a key, in file order, band after band."""
    for band in range(BANDS):
        keys = band_keys(rows, band)
        order = np.argsort(keys, kind="stable").astype(np.int32)
        ordered = keys[order]
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ordered) else np.zeros(0, np.int64)
        sizes = np.diff(np.r_[starts, len(ordered)])
        several = (sizes > 1) & (ordered[starts] != 0)
        for start, size in zip(starts[several].tolist(), sizes[several].tolist(), strict=True):
            yield order[start : start + size].tolist()


def _groups(pairs: Sequence[Pair], lines: NDArray[np.int32]) -> list[list[int]]:
    """The pairs as groups of lines, each in file order."""
    root: dict[int, int] = {}

    def find(row: int) -> int:
        while root.setdefault(row, row) != row:
            root[row] = root[root[row]]
            row = root[row]
        return row

    for row, other, _ in pairs:
        one, two = sorted((find(row), find(other)))
        root[two] = one
    groups: dict[int, list[int]] = {}
    for row in sorted(root):
        groups.setdefault(find(row), []).append(int(lines[row]))
    return list(groups.values())


def _found(pairs: Sequence[Pair], lines: NDArray[np.int32]) -> Found:
    """Rows -> lines: the later line of each pair first, in file order."""
    named = [(int(lines[max(pair[:2])]), int(lines[min(pair[:2])]), pair[2]) for pair in pairs]
    return Found(sorted(named), _groups(pairs, lines))


def _exact_finding(line: int, earlier: int, similarity: float) -> Finding:
    return finding("duplicate_row", line, f"The row is the same as line {earlier}.", value=str(earlier))


def _near_finding(line: int, earlier: int, similarity: float) -> Finding:
    text = f"The row is nearly the same as line {earlier} (similarity {similarity:.2f})."
    return finding("near_duplicate", line, text, value=str(earlier))
