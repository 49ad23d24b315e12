"""The statements that a store's database is sent."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import event

from tunesmith.store import Store

REQUESTS = ("MainThread", "AnyIO", "asyncio-portal")  # how the names of threads that answer requests begin


class Statements:
    """What was asked of the database, in order; what background threads ask is left out."""

    def __init__(self) -> None:
        self.all: list[str] = []

    def note(self, *given: object) -> None:
        _connection, _cursor, statement, parameters, *_ = given
        if threading.current_thread().name.startswith(REQUESTS):
            self.all.append(f"{' '.join(str(statement).split())} {parameters}")

    def repeated(self) -> dict[str, int]:
        """What was read more than once with the same parameters, and how often."""
        counted = Counter(one for one in self.all if one.startswith(("SELECT", "WITH")))
        return {one: times for one, times in counted.items() if times > 1}


@contextmanager
def statements(store: Store) -> Iterator[Statements]:
    """Every statement until the block ends."""
    heard = Statements()
    event.listen(store.database.engine, "before_cursor_execute", heard.note)
    try:
        yield heard
    finally:
        event.remove(store.database.engine, "before_cursor_execute", heard.note)
