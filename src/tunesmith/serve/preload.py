"""Loads the base of the setting `serve_preload` while nobody asks yet.

What can wait is done on a thread of low priority: imports, and reading the files, which then are in the system's
memory. The load itself is the pool's own, as for a request, on a thread of usual priority: the engine's threads inherit
it. A request that comes meanwhile waits for the same load; the base is never in memory twice.
"""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog

from tunesmith.errors import InvalidRequest, ServerFault
from tunesmith.models.directory import is_present, materialise
from tunesmith.models.gguf.block_index import block_places
from tunesmith.models.registry import BaseModel, resolve_base
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings

log = structlog.get_logger(__name__)

LOW_PRIORITY = 10  # niceness
READ_BYTES = 1 << 22


def preloading(settings: Settings, pool: Pool) -> threading.Thread | None:
    """The thread that loads the base of the setting, to be started.

    None if the setting is empty. Raises InvalidRequest if the setting names an unknown base.
    """
    if not settings.serve_preload:
        return None
    try:
        base = resolve_base(settings.serve_preload, settings)
    except InvalidRequest as error:
        raise InvalidRequest(f"Setting serve_preload: {error.message}") from error
    return threading.Thread(target=_preload, args=(base, settings, pool), name="tunesmith-preload", daemon=True)


def _preload(base: BaseModel, settings: Settings, pool: Pool) -> None:
    """A fault is logged: the first request for the base meets it again, and answers with it."""
    if base.name not in settings.serve_remote and not is_present(base, settings):
        log.warning("serve_preload: the base is not here yet", base=base.name, fix=f"tunesmith models pull {base.name}")
        return
    try:
        directory = materialise(base, settings)
        if base.name not in settings.serve_remote:
            _at_low_priority(lambda: _warm(directory))
        pool.open(directory, base_name=base.name)
        log.info("the base of serve_preload is in memory", base=base.name)
    except (InvalidRequest, ServerFault, OSError) as error:
        log.warning("serve_preload: the base could not be loaded", base=base.name, why=str(error))


def _warm(directory: Path) -> None:
    import tunesmith.serve.local.engine  # noqa: F401 - the import is what takes time

    blocks, _ = block_places(directory)
    for file in sorted(directory.glob("*.safetensors")) if blocks is None else [blocks]:
        with file.open("rb", buffering=0) as handle:
            while handle.read(READ_BYTES):
                pass


def _at_low_priority(work: Callable[[], None]) -> None:
    def run() -> None:
        with suppress(OSError, AttributeError):  # a system where threads have no priority of their own
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOW_PRIORITY)
        with suppress(OSError, ImportError):  # the load says what is wrong
            work()

    thread = threading.Thread(target=run, name="tunesmith-preload-files", daemon=True)
    thread.start()
    thread.join()
