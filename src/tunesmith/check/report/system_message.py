"""The system message that a file's rows share."""

from pathlib import Path

import numpy as np

from tunesmith.check.scan.result import ChunkResult
from tunesmith.rows.raw_row import iter_rows
from tunesmith.rows.row import ChatRow, PreferenceRow, ReinforcementRow, parse_row

SYSTEM_ROLES = ("system", "developer")


def common_system_message(path: Path, rows: ChunkResult) -> str | None:
    """The system message of most rows of the file at `path`, whose scan is `rows`.

    None where rows without one are at least as many, and where no two of several rows share one.
    """
    found, first, counts = np.unique(rows.systems, return_index=True, return_counts=True)
    counted = np.where(found == 0, 0, counts)
    if not counted.size or not counted.max() or counted.max() <= int((rows.systems == 0).sum()):
        return None
    commonest = np.flatnonzero(counted == counted.max())
    if counted.max() == 1 and rows.systems.size > 1:
        return None
    return _system_message(path, int(rows.lines[first[commonest].min()]))


def _system_message(path: Path, line: int) -> str | None:
    """The first system message of the row in this line, with its text parts joined."""
    for raw in iter_rows(path, {line}):
        row = parse_row(raw.value(), raw.line)
        if isinstance(row, ChatRow):
            messages = row.messages
        elif isinstance(row, PreferenceRow | ReinforcementRow):
            messages = row.prompt
        else:
            return None
        return next((one.content for one in messages if one.role in SYSTEM_ROLES), None)
    return None
