"""Loads a base while nobody asks yet.

That of the setting `serve_preload`, or the one that was asked last.

What can wait is done on a thread of low priority: imports, and reading the files, which then are in the system's
memory. The load itself is the pool's own, as for a request, on a thread of usual priority: the engine's threads inherit
it. A request that comes meanwhile waits for the same load, or ends it where it is for another base; no base is in
memory twice, and none that nobody asked for beside one that is being loaded.
"""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from tunesmith.errors import InvalidRequest
from tunesmith.models.directory import is_present, materialise
from tunesmith.models.gguf.block_index import block_places
from tunesmith.models.registry import BaseModel, list_bases, resolve_base
from tunesmith.serve.giving_way import GaveWay
from tunesmith.serve.last_base import AskedBase, LastBase, read_last
from tunesmith.serve.pool import Pool, Preloaded
from tunesmith.settings import LAST_BASE, Settings
from tunesmith.system.memory import free_memory

log = structlog.get_logger(__name__)

LOW_PRIORITY = 10  # niceness
READ_BYTES = 1 << 22
STOPS = "serve_preload: the server stops before the base is loaded"
SAID: dict[Preloaded, str] = {
    "in time": "a base is in memory before it is asked for",
    "asked for": "serve_preload: the base is in memory, and was asked for before it was",
    "no room": "serve_preload: no room for the base beside those that were asked for",
    "closed": STOPS,
}


@dataclass(frozen=True, slots=True)
class _Preload:
    """`last`: nobody named the base, so that any request for another one takes its place."""

    settings: Settings
    pool: Pool
    last: bool


def pool_of_server(settings: Settings) -> Pool:
    """A pool that keeps which base was asked last, for the next start."""
    return Pool(settings, asked=LastBase(settings.paths).keep)


def preloading(settings: Settings, pool: Pool, *, lasting: bool = True) -> threading.Thread | None:
    """The thread that loads the base of the setting, to be started.

    None if the setting is empty. `lasting`: whether the server stays; one for a single command loads no base for its
    having been asked last. Raises InvalidRequest if the setting names an unknown base.
    """
    named = settings.serve_preload
    if not named or (named == LAST_BASE and not lasting):
        return None
    work = _Preload(settings, pool, last=named == LAST_BASE)
    try:
        base = None if work.last else resolve_base(named, settings)
    except InvalidRequest as error:
        here = ", ".join(sorted(base.name for base in list_bases(settings)))
        raise InvalidRequest(
            f"Setting serve_preload: {named!r} is no base here. Correct it to one of {here}; or to {LAST_BASE}, the"
            " base that was asked last; or leave it empty, and none is loaded before it is asked for."
        ) from error
    return threading.Thread(target=_preload, args=(work, base), name="tunesmith-preload", daemon=True)


def _preload(work: _Preload, base: BaseModel | None) -> None:
    """A fault is logged: the first request for the base meets it again, and answers with it."""
    name = "" if base is None else base.name
    try:
        found = read_last(work.settings) if base is None else _named(base, work.settings)
        if found is not None and _may(work, found):
            name = found.name or found.directory
            _load(work, found, name)
    except GaveWay:
        stops = work.pool.is_closed
        log.info(STOPS if stops else "serve_preload: another base was asked for first", base=name)
    except Exception as error:  # whatever its files hold; nobody waits for this thread
        log.warning("serve_preload: the base could not be loaded", base=name, why=str(error) or type(error).__name__)


def _named(base: BaseModel, settings: Settings) -> AskedBase | None:
    if base.name not in settings.serve_remote and not is_present(base, settings):
        log.warning("serve_preload: the base is not here yet", base=base.name, fix=f"tunesmith models pull {base.name}")
        return None
    return AskedBase(str(materialise(base, settings)), base.name)


def _may(work: _Preload, found: AskedBase) -> bool:
    """Whether there is memory for a base that nobody named."""
    if not work.last or found.name in work.settings.serve_remote:
        return True
    needed, room = work.pool.counted_bytes(Path(found.directory)), min(work.pool.limit_bytes, free_memory())
    if needed > room:
        log.info("serve_preload: no room for the base that was asked last", needed=needed, room=room)
    return needed <= room


def _load(work: _Preload, found: AskedBase, name: str) -> None:
    began, directory = time.monotonic(), Path(found.directory)
    if found.name not in work.settings.serve_remote:
        _at_low_priority(lambda: _warm(directory, work.pool))
    if work.last and set(work.pool.resident()) - {directory}:
        raise GaveWay
    loaded = _into_pool(work, directory, found.name)
    log.info(SAID[loaded], base=name, seconds=round(time.monotonic() - began, 2))


def _into_pool(work: _Preload, directory: Path, name: str) -> Preloaded:
    """A base that the setting names is loaded after the one that it gave way to."""
    while True:
        try:
            return work.pool.preload(directory, name)
        except GaveWay:
            if work.last:
                raise


def _warm(directory: Path, pool: Pool) -> None:
    """Reads the files, until a request comes."""
    import tunesmith.serve.local.engine  # noqa: F401 - the import is what takes time

    blocks, _ = block_places(directory)
    for file in sorted(directory.glob("*.safetensors")) if blocks is None else [blocks]:
        with file.open("rb", buffering=0) as handle:
            while not pool.resident() and handle.read(READ_BYTES):
                pass


def _at_low_priority(work: Callable[[], None]) -> None:
    def run() -> None:
        with suppress(OSError, AttributeError):  # a system where threads have no priority of their own
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOW_PRIORITY)
        with suppress(Exception):  # the load says what is wrong
            work()

    thread = threading.Thread(target=run, name="tunesmith-preload-files", daemon=True)
    thread.start()
    thread.join()
