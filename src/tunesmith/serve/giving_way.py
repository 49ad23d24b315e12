"""Work that nobody waits for ends early where the machine is wanted elsewhere.

Whoever begins such work runs it in `may_give_way`; the work asks `give_way` where it can stop. All other work asks in
vain. It is asked on the thread that began: threads that help there are stopped by it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event


@dataclass(frozen=True, slots=True)
class SpareLoad:
    """The load of a base that nobody waits for.

    `wanted` is set once something else is.
    """

    directory: Path
    wanted: Event = field(default_factory=Event)


class GaveWay(Exception):
    """The work ended early."""


_wanted: ContextVar[Event | None] = ContextVar("wanted", default=None)


@contextmanager
def may_give_way(wanted: Event) -> Iterator[None]:
    """Within it `give_way` ends the work once `wanted` is set."""
    token = _wanted.set(wanted)
    try:
        yield
    finally:
        _wanted.reset(token)


def give_way() -> None:
    """Raises GaveWay if the work is to end; to be called between two of its parts."""
    wanted = _wanted.get()
    if wanted is not None and wanted.is_set():
        raise GaveWay
