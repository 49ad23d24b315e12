"""A share of a training file that is not trained on but evaluated."""

import random
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from tunesmith.estimate.verdict_time import VerdictPlan
from tunesmith.rows.raw_row import RawRow, iter_rows
from tunesmith.system.atomic_write import make_directories, rename_durably

SHARE = 0.1
LEAST_ROWS = 30  # where nobody said how large the share is: a tenth, but 30 rows, but at most a quarter …
MOST_SHARE = 0.25
MOST_ROWS = 500  # … and no more than that


@dataclass(frozen=True, slots=True)
class Split:
    """The two parts of a file. Equal rows are all in one of them."""

    training: Path
    held_out: Path


def held_out_count(rows: int, share: float | bool) -> int:
    """How many of `rows` are held out. `share`: of them; True leaves it to us."""
    if isinstance(share, bool):
        return min(MOST_ROWS, max(round(SHARE * rows), min(LEAST_ROWS, int(MOST_SHARE * rows))))
    return max(1, round(share * rows))


def verdict_plan(
    asked: float | bool | None, rows: int, validation_rows: int | None, pace: float | None = None
) -> VerdictPlan | None:
    """The rows of a job's verdict; None for a job without one.

    `rows` are those of its training file, `asked` is the job's option `evaluate`, `validation_rows` is None where there
    is no validation file.
    """
    if asked is False or (validation_rows is None and not asked):
        return None
    if validation_rows is not None:
        return VerdictPlan(validation_rows, pace=pace)
    held = held_out_count(rows, asked or False)
    return VerdictPlan(held, held, pace)


def split_file(path: Path, split: Split, share: float | bool, seed: int) -> Split:
    """Writes the two parts unless they are there.

    The same file, share and seed give the same parts.
    """
    if split.training.exists() and split.held_out.exists():
        return split
    chosen = _chosen([_digest(row) for row in iter_rows(path)], share, seed)
    make_directories(split.training.parent)
    parts = [one.with_name(f".{one.name}.partial") for one in (split.held_out, split.training)]
    with parts[0].open("wb") as held, parts[1].open("wb") as rest:
        for row in iter_rows(path):
            (held if _digest(row) in chosen else rest).write((row.text or b"") + b"\n")
    for part, target in zip(parts, (split.held_out, split.training), strict=True):
        rename_durably(part, target)
    return split


def _chosen(digests: list[bytes], share: float | bool, seed: int) -> set[bytes]:
    wanted = held_out_count(len(digests), share)
    times: dict[bytes, int] = {}
    for digest in digests:
        times[digest] = times.get(digest, 0) + 1
    order = list(times)
    random.Random(f"{seed}/held out").shuffle(order)
    chosen: set[bytes] = set()
    count = 0
    for digest in order:
        if count + times[digest] <= wanted:
            chosen.add(digest)
            count += times[digest]
    return chosen


def _digest(row: RawRow) -> bytes:
    return blake2b((row.text or b"").strip(), digest_size=16).digest()
