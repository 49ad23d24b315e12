"""The adapters in a vLLM server: loaded when first needed, evicted later.

An adapter's name there is the digest of its manifest, which contains the digest of its tensors: another version of an
adapter has another name, and one that the server already has need not be loaded. Belongs to one event loop.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import structlog

from tunesmith.errors import TunesmithError
from tunesmith.models.adapters import MANIFEST_FILE, check_tensors, read_manifest
from tunesmith.serve.vllm.server import RemoteServer

PREFIX = "tunesmith-"

log = structlog.get_logger(__name__)


def adapter_name(directory: Path) -> str:
    """The adapter's name at the server.

    Raises ServerFault if the directory holds no finished adapter.
    """
    read_manifest(directory)
    return PREFIX + sha256((directory / MANIFEST_FILE).read_bytes()).hexdigest()[:32]


@dataclass(slots=True, eq=False)
class _Resident:
    loading: asyncio.Task[None] | None = None  # None: the server had it before we started
    users: int = 0

    @property
    def idle(self) -> bool:
        return self.users == 0 and (self.loading is None or self.loading.done())


class RemoteAdapters:
    """Our adapters in one vLLM server, least recently used first."""

    def __init__(self, server: RemoteServer, limit: int, loaded: Iterable[str] = ()) -> None:
        """At most `limit` stay loaded. `loaded`: names that the server has; those that are not ours are left alone."""
        self._server = server
        self._limit = limit
        self._resident: OrderedDict[str, _Resident] = OrderedDict(
            (name, _Resident()) for name in loaded if name.startswith(PREFIX)
        )

    @asynccontextmanager
    async def using(self, directory: Path) -> AsyncIterator[str]:
        """The adapter's name at the server, where it stays inside the `async with`."""
        name = adapter_name(directory)
        resident = self._resident.get(name)
        if resident is None:
            loading = asyncio.create_task(self._load(name, directory))
            loading.add_done_callback(lambda task: self._loaded(name, task))
            resident = self._resident[name] = _Resident(loading)
        self._resident.move_to_end(name)
        resident.users += 1
        try:
            if resident.loading is not None:
                await asyncio.shield(resident.loading)  # other requests wait for it too
            yield name
        finally:
            resident.users -= 1

    def discard(self, name: str) -> None:
        """Records that the server no longer has the adapter."""
        self._resident.pop(name, None)

    def found(self, names: Iterable[str]) -> None:
        """Records what the server has when it is back.

        Those of ours that it lost are loaded again by need.
        """
        there = {name for name in names if name.startswith(PREFIX)}
        for name in self._resident.keys() - there:
            self.discard(name)
        for name in there - self._resident.keys():
            self._resident[name] = _Resident()
            self._resident.move_to_end(name, last=False)

    async def _load(self, name: str, directory: Path) -> None:
        await asyncio.to_thread(check_tensors, directory)  # a damaged file must not answer
        await self._evict()
        await self._server.load_adapter(name, directory)

    def _loaded(self, name: str, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is not None:
            self.discard(name)  # so that the next request tries again

    async def _evict(self) -> None:
        idle = [name for name, resident in self._resident.items() if resident.idle]
        for name in idle[: max(0, len(self._resident) - self._limit)]:
            self.discard(name)
            try:
                await self._server.unload_adapter(name)
            except TunesmithError as error:  # which only costs memory there
                log.warning("adapter not unloaded", adapter=name, error=str(error))
