"""Near-duplicates by shingles: a row's text as the set of its runs of six bytes.

Two rows are as similar as their sets of shingles: Jaccard, |both| / |either|. White space and ASCII punctuation are
dropped and ASCII letters lowered first. Six bytes of UTF-8 are six Latin letters, three Cyrillic or two Chinese ones,
so one rule serves scripts with and without spaces. System prompts and tool declarations do not count: a file that
shares one among all its rows would look like one row many times.

Each row leaves a sketch of 61 bytes: 60 slots of MinHash (by `rensa`), of which 8 bits are kept, and a mark that the
row is long enough. Two rows agree in a slot with a probability of their similarity (and 1/256 by chance), so a sketch
tells the similarity of two rows within about 0.05. Twelve bands of five slots are locality-sensitive hashing: two rows
of similarity s agree in a whole band with probability 1 - (1 - s^5)^12, which is 0.99 at 0.8, 0.32 at 0.5 and 0.03 at
0.3.

Not covered: rows that say the same in other words, and rows of fewer than `MIN_SHINGLES` shingles.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

from tunesmith.check.scan.batch import GAP, Batch
from tunesmith.rows.row_texts import RowTexts

WIDTH = 6
MIN_SHINGLES = 24
BANDS = 12
SLOTS_PER_BAND = 5
SLOTS = BANDS * SLOTS_PER_BAND
SKETCH = SLOTS + 1
SEED = 1

_HASHED_SLOTS = 64  # rensa is fastest at powers of two
_DROPPED = bytes(range(33)) + b"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~\x7f"
_LOWER = bytes(byte + 32 if 65 <= byte <= 90 else byte for byte in range(256))
_WINDOW = np.uint64((1 << (8 * WIDTH)) - 1)
_ODD = np.uint64(0x9E3779B97F4A7C15)
_BATCH_BYTES = 512 * 1024  # the working arrays of one call then stay in the cache


def row_words(row: RowTexts) -> bytes:
    """What a row says, without its system prompt and tools."""
    said = [
        text
        for index, (text, path) in enumerate(zip(row.texts, row.paths, strict=True))
        if index != row.system_at and not _declares(path)
    ]
    return "\n".join(said).encode()


def batch_words(batch: Batch) -> list[bytes]:
    """The `row_words` of each row of a batch."""
    found = []
    for row in batch.rows:
        said = list(row.encoded)
        if isinstance(row.about, RowTexts):
            paths, system_at = row.about.paths, row.about.system_at
            said = [text for at, text in enumerate(said) if at != system_at and not _declares(paths[at])]
        elif row.about.system_at >= 0:
            del said[row.about.system_at]
        found.append(b"\n".join(said))
    return found


def shingles(words: bytes) -> NDArray[np.uint64]:
    """The sorted set of shingles of one row's words."""
    found = _windows(words.translate(_LOWER, _DROPPED))
    found.sort()
    new = np.ones(len(found), bool)
    np.not_equal(found[1:], found[:-1], out=new[1:])
    return found[new]


def jaccard(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> float:
    """Similarity of two sets as `shingles` gives them; 0 if either is empty."""
    joint = np.concatenate((one, other))
    joint.sort()
    both = int(np.count_nonzero(joint[1:] == joint[:-1]))
    either = one.size + other.size - both
    return both / either if either else 0.0


def sketches(rows: Sequence[bytes]) -> NDArray[np.uint8]:
    """The sketches of some rows, (rows, SKETCH).

    The last column is 1 for a row that is long enough to be compared, else 0.
    """
    found, first, size = [np.zeros((0, SKETCH), np.uint8)], 0, 0
    for index, row in enumerate(rows):
        size += len(row)
        if size >= _BATCH_BYTES:
            found.append(_sketches(rows[first : index + 1]))
            first, size = index + 1, 0
    if first < len(rows):
        found.append(_sketches(rows[first:]))
    return np.concatenate(found)


def band_keys(sketches: NDArray[np.uint8], band: int) -> NDArray[np.uint64]:
    """A key for each row; rows of one key are candidates. 0: too short to be compared."""
    keys = sketches[:, SLOTS].astype(np.uint64)
    for slot in range(band * SLOTS_PER_BAND, (band + 1) * SLOTS_PER_BAND):
        keys <<= np.uint64(8)
        keys |= sketches[:, slot]
    keys[sketches[:, SLOTS] == 0] = 0
    return keys


def estimates(sketch: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Estimated similarity of one row to others: (SKETCH,), (n, SKETCH) -> (n,)."""
    shares: NDArray[np.float64] = np.count_nonzero(others[:, :SLOTS] == sketch[:SLOTS], axis=1) / SLOTS
    return shares


def _sketches(rows: Sequence[bytes]) -> NDArray[np.uint8]:
    words = (GAP.join(rows) + GAP).translate(_LOWER, _DROPPED)
    ends = np.flatnonzero(np.frombuffer(words, np.uint8) == GAP[0])
    starts = np.concatenate(([0], ends[:-1] + 1))
    hashes = _windows(words + bytes(WIDTH)) * _ODD
    hashes >>= np.uint64(32)
    _drop_crossing(hashes, starts, ends)
    offsets = np.append(starts, ends[-1] + 1).astype(np.uint64)
    hashed = RMinHash.digest_matrix_from_flat_token_hashes(hashes[: ends[-1] + 1], offsets, _HASHED_SLOTS, SEED)
    found = np.empty((len(rows), SKETCH), np.uint8)
    found[:, :SLOTS] = np.array(hashed.to_rows(), np.uint32)[:, :SLOTS].astype(np.uint8)
    found[:, SLOTS] = ends - starts >= MIN_SHINGLES + WIDTH - 1
    return found


def _windows(words: bytes) -> NDArray[np.uint64]:
    """Each run of WIDTH bytes as a number."""
    count = max(0, len(words) - WIDTH + 1)
    padded = words + bytes(8)
    windows: NDArray[np.uint64] = np.ndarray((count,), np.dtype("<u8"), padded, 0, (1,)) & _WINDOW
    return windows


def _drop_crossing(hashes: NDArray[np.uint64], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
    """A window that reaches into the next row becomes a copy of its own row's first, which a set ignores."""
    for back in range(WIDTH):
        crossing = np.maximum(ends - back, starts)
        hashes[crossing] = hashes[starts]


def _declares(path: str) -> bool:
    return path.removeprefix("input.").startswith(("tools[", "functions["))
