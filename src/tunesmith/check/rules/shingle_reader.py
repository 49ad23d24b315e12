"""Reads single rows of a file again, by number, to compare what they say in full."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from tunesmith.check.rules.shingles import jaccard, row_words, shingles
from tunesmith.rows.lines import chunks, read_chunk
from tunesmith.rows.row_texts import row_texts

CACHED_ROWS = 2_000  # about 10 MB: 600 shingles of 8 bytes in a row of 700


class ShingleReader:
    """The shingles of the rows of a file, read again by row number.

    `lines` are the line numbers of the rows in `path`, ascending; 8 bytes for each are kept.
    """

    def __init__(self, path: Path, lines: NDArray[np.int32]) -> None:
        self._offsets = _offsets(path, lines)
        self._file = path.open("rb")
        self.shingles = lru_cache(CACHED_ROWS)(self._shingles)

    def similarity(self, row: int, other: int) -> float:
        """The Jaccard similarity of two rows."""
        return jaccard(self.shingles(row), self.shingles(other))

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _shingles(self, row: int) -> NDArray[np.uint64]:
        self._file.seek(int(self._offsets[row]))
        return shingles(row_words(row_texts(orjson.loads(self._file.readline()))))


def _offsets(path: Path, lines: NDArray[np.int32]) -> NDArray[np.int64]:
    """Where each of the lines starts."""
    offsets = np.zeros(len(lines), np.int64)
    done = 0
    for chunk in chunks(path):
        if done == len(lines):
            break
        if chunk.too_long:
            continue
        starts = np.flatnonzero(np.frombuffer(b"\n" + read_chunk(path, chunk), np.uint8) == 10)
        after = chunk.first_line + len(starts)  # a line end that ends the chunk starts no line that is asked for
        upto = int(np.searchsorted(lines, after - int(starts[-1] == chunk.length)))
        offsets[done:upto] = chunk.offset + starts[lines[done:upto] - chunk.first_line]
        done = upto
    return offsets
