"""A job's events, ordered by `seq`.

It grows within a job because writers hold the lock on the job's row.
"""

import time
from collections.abc import Sequence

from sqlalchemy import Connection, RowMapping, insert

from tunesmith.store.ids import new_event_id
from tunesmith.store.rows import EventRow, NewEvent
from tunesmith.store.schema.tables import events


def insert_events(connection: Connection, job_id: str, new: Sequence[NewEvent]) -> None:
    """Insert events; the caller has locked the job's row."""
    if not new:
        return
    now = int(time.time())
    rows = [
        {
            "id": new_event_id(),
            "job_id": job_id,
            "created_at": now,
            "level": event.level,
            "message": event.message,
            "type": event.type,
            "data": event.data,
        }
        for event in new
    ]
    connection.execute(insert(events), rows)


def event_row(row: RowMapping) -> EventRow:
    """The row as the store returns it."""
    return EventRow(**{name: row[name] for name in EventRow.__slots__})
