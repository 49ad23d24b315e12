"""Reads single rows of a file again, by number, to compare what they say in full."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from tunesmith.data.lines import chunks, read_chunk
from tunesmith.data.rowtexts import row_texts
from tunesmith.data.shingles import jaccard, row_words, shingles

CACHED_ROWS = 2_000  # about 10 MB: 600 shingles of 8 bytes in a row of 700


class RowWords:
    """`lines` are the rows' line numbers in `path`; only rows marked in `wanted` can be read."""

    def __init__(self, path: Path, lines: NDArray[np.int32], wanted: NDArray[np.bool_]) -> None:
        self._file = path.open("rb")
        self._rows = np.flatnonzero(wanted)
        self._spans = _spans(path, lines[self._rows])
        self.shingles = lru_cache(CACHED_ROWS)(self._shingles)

    def similarity(self, row: int, other: int) -> float:
        return jaccard(self.shingles(row), self.shingles(other))

    def _shingles(self, row: int) -> NDArray[np.uint64]:
        offset, length = self._spans[np.searchsorted(self._rows, row)]
        self._file.seek(int(offset))
        return shingles(row_words(row_texts(orjson.loads(self._file.read(int(length))))))

    def close(self) -> None:
        self._file.close()


def _spans(path: Path, lines: NDArray[np.int32]) -> NDArray[np.int64]:
    """(len(lines), 2): offset and length in bytes of each line; `lines` ascend."""
    spans = np.zeros((len(lines), 2), np.int64)
    done = 0
    for chunk in chunks(path):
        if done == len(lines):
            break
        if chunk.too_long:
            continue
        ends = np.flatnonzero(np.frombuffer(read_chunk(path, chunk), np.uint8) == 10)
        if not len(ends) or ends[-1] != chunk.length - 1:
            ends = np.append(ends, chunk.length)
        upto = int(np.searchsorted(lines, chunk.first_line + len(ends)))
        within = lines[done:upto] - chunk.first_line
        starts = np.where(within > 0, ends[within - 1] + 1, 0)
        spans[done:upto, 0] = chunk.offset + starts
        spans[done:upto, 1] = ends[within] - starts
        done = upto
    return spans
