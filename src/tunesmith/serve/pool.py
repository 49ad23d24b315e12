"""The bases in memory: loaded when needed, evicted when memory runs short.

The least recently used base goes first. A base that is loaded before anyone asks (`preload`) gives way to one that is
asked for: its load ends, and what it held is free before the other begins.

Bases that have no room beside each other are loaded one after the other, however many are asked for at once.

Thread-safe. `open` may take seconds and must not run on the event loop; a base that is not compiled imports torch.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Literal, TypeAlias

from tunesmith import __version__
from tunesmith.errors import ServerFault
from tunesmith.models.adapters import MANIFEST_FILE, NO_ADAPTER, AdapterManifest, read_manifest, unusable_adapter
from tunesmith.models.directory import fingerprint
from tunesmith.models.tuned import require_files
from tunesmith.render.renderer import Renderer, load_renderer
from tunesmith.serve.chat.schema import for_older_llguidance
from tunesmith.serve.engine.grammar import Grammars
from tunesmith.serve.engine.protocol import Engine
from tunesmith.serve.giving_way import GaveWay, SpareLoad, give_way, may_give_way
from tunesmith.serve.loaded_model import LoadedModel
from tunesmith.serve.weight_bytes import weight_bytes
from tunesmith.settings import Settings
from tunesmith.system.activity import doing
from tunesmith.system.memory import total_memory

CLOSE_SECONDS = 5.0
LOOK_SECONDS = 0.1  # between two looks at whether a load that waits for another is to end
HANDOVER_SECONDS = 0.2  # in which who waited for a base asks it, before it may be unloaded for another


Preloaded: TypeAlias = Literal["in time", "asked for", "no room", "closed"]  # before, or while a request waited


@dataclass(frozen=True, slots=True)
class _Base:
    engine: Engine
    renderer: Renderer
    fingerprint: str
    nbytes: int  # 0 if another server has the weights
    grammars: Grammars
    tuned: str  # SHA-256 of its weights where they are tuned ones


@dataclass(frozen=True, slots=True)
class _Load:
    """A load that has its room: it waits for no other."""

    future: "Future[_Base]"
    nbytes: int


def load_local_engine(base_dir: Path, settings: Settings) -> Engine:
    """The in-process engine for `base_dir`.

    Imports numba, and torch where the base is not compiled.
    """
    from tunesmith.serve.local.engine import load_engine

    return load_engine(base_dir, settings)


class Pool:
    """Opens models, and keeps as many bases in memory as the settings allow."""

    def __init__(
        self,
        settings: Settings,
        load: Callable[[Path, Settings], Engine] = load_local_engine,
        asked: Callable[[Path, str], None] = lambda _directory, _name: None,
    ) -> None:
        """`asked`: is told the directory and the name of each base that is opened.

        Raises ServerFault if the setting `serve_remote` names an unknown base.
        """
        if settings.serve_remote:
            from tunesmith.serve.vllm.loading import check_remotes  # with an HTTP client, which takes a while

            check_remotes(settings)
        self._settings = settings
        self._load, self._asked = load, asked
        self.limit_bytes = settings.serve_memory_mib * 2**20 or total_memory() // 2
        self._bases: OrderedDict[Path, Future[_Base]] = OrderedDict()
        self._begun: dict[Path, _Load] = {}
        self._spare: SpareLoad | None = None
        self._closed = False
        self._lock = Lock()

    def open(self, base_dir: Path, adapter_dir: Path | None = None, base_name: str = "") -> LoadedModel:
        """The base with the adapter, loaded unless it is in memory.

        Full weights in `adapter_dir` are a base of their own.

        If the setting `serve_remote` has a vLLM server for `base_name`, the base is not loaded but used there.
        Raises ServerFault if the adapter was made for another base or renderer.
        """
        manifest = None if adapter_dir is None else read_manifest(adapter_dir)
        if adapter_dir is not None and manifest is not None and manifest.adapter == "none":
            require_files(adapter_dir)
            base_dir, adapter_dir, base_name = adapter_dir, None, ""
        base = self._base(base_dir, base_name)
        self._asked(base_dir, base_name)
        parts = [__version__, base.engine.fingerprint]
        renderer, grammars = base.renderer, base.grammars
        if manifest is not None:
            _check(manifest, adapter_dir, base)
            renderer, grammars = _as_trained(manifest, base, base_dir)
            parts.append(manifest.sha256)
        digest = sha256(" ".join(parts).encode()).hexdigest()[:10]
        tuned = base.tuned if adapter_dir is None or manifest is None else manifest.sha256
        return LoadedModel(base.engine, renderer, adapter_dir, digest, grammars, tuned)

    def preload(self, base_dir: Path, base_name: str) -> Preloaded:
        """Loads a base before anyone asks for it, beside those in memory; evicts none.

        Waits until what is asked for is loaded. GaveWay is raised where a request for another base came meanwhile, or
        the pool was closed.
        """
        while True:
            wait(self._loading())
            with self._lock:
                if self._closed:
                    return "closed"
                if base_dir in self._bases:
                    return "asked for"
                if not all(future.done() for future in self._bases.values()):
                    continue  # a request came just now
                if self._bases and not self._has_room(base_dir, base_name):
                    return "no room"
                spare = self._spare = SpareLoad(base_dir)
                future = self._bases[base_dir] = Future()
                self._bases.move_to_end(base_dir, last=False)
                break
        with may_give_way(spare.wanted):
            self._load_base(base_dir, base_name, future)
        future.result()
        with self._lock:
            return "in time" if self._spare is spare else "asked for"

    @property
    def is_closed(self) -> bool:
        """Whether no base will be loaded any more."""
        return self._closed

    def counted_bytes(self, base_dir: Path) -> int:
        """What a base is taken to need in memory; with others it may take `limit_bytes`."""
        return weight_bytes(base_dir, self._settings)

    def resident(self) -> tuple[Path, ...]:
        """The bases in memory or being loaded, least recently used first."""
        with self._lock:
            return tuple(self._bases)

    def close(self) -> None:
        """Unloads all bases, after waiting a few seconds for requests under way."""
        with self._lock:
            self._closed, spare = True, self._end_spare()
            bases = list(self._bases.values())
            self._bases.clear()
        for future in bases:
            _unload(future)
        if spare is not None:
            wait([spare], CLOSE_SECONDS)
        for future in bases:  # a process that ends while compiled code or torch works on another thread is aborted
            if future.done() and future.exception() is None:
                future.result().engine.join(CLOSE_SECONDS)

    def _base(self, base_dir: Path, base_name: str) -> _Base:
        while True:
            with self._lock:
                future = self._bases.get(base_dir)
                mine = future is None
                if future is None:
                    future = self._bases[base_dir] = Future()
                self._bases.move_to_end(base_dir)
                spare = self._take_spare(base_dir, loads=mine and base_name not in self._settings.serve_remote)
            if spare is not None:
                wait([spare])
            if mine:
                self._load_base(base_dir, base_name, future)
            with suppress(GaveWay):  # to another request, just before this one came
                return future.result()

    def _take_spare(self, base_dir: Path, *, loads: bool) -> "Future[_Base] | None":
        """Ends the load that nobody waits for, or has it wanted by a request for its base.

        The load that is ending, if any. The caller holds the lock.
        """
        spare = self._spare
        if spare is None or not (loads or spare.directory == base_dir):
            return None
        if spare.directory != base_dir:
            return self._end_spare()
        self._spare = None
        return None

    def _end_spare(self) -> "Future[_Base] | None":
        """The load that nobody waits for, which is told to end. The caller holds the lock."""
        spare, self._spare = self._spare, None
        if spare is None:
            return None
        spare.wanted.set()
        return self._bases.get(spare.directory)

    def _load_base(self, base_dir: Path, base_name: str, future: "Future[_Base]") -> None:
        try:
            base = self._loaded(base_dir, base_name, future)
        except BaseException as error:
            if isinstance(error, GaveWay):
                error.__traceback__ = None  # its frames hold what the load had made
            with self._lock:
                self._bases.pop(base_dir, None)  # so that the next request tries again
            future.set_exception(error)
        else:
            future.set_result(base)
        with self._lock:
            self._begun.pop(base_dir, None)

    def _loaded(self, base_dir: Path, base_name: str, future: "Future[_Base]") -> _Base:
        remote = base_name in self._settings.serve_remote
        nbytes = 0 if remote else weight_bytes(base_dir, self._settings)
        if nbytes:
            self._make_room(nbytes, base_dir, future)
        load = _remote(base_name) if remote else self._load
        with doing(f"loading the base model {base_name}".rstrip()):
            give_way()
            engine, renderer = load(base_dir, self._settings), load_renderer(base_dir)
        grammars = _grammars(renderer, remote=remote)
        return _Base(engine, renderer, fingerprint(base_dir), nbytes, grammars, _tuned(base_dir))

    def _loading(self) -> "list[Future[_Base]]":
        with self._lock:
            return [future for future in self._bases.values() if not future.done()]

    def _has_room(self, base_dir: Path, base_name: str) -> bool:
        """Whether a base fits beside all others; one of another server always does. The caller holds the lock."""
        if base_name in self._settings.serve_remote:
            return True
        used = sum(future.result().nbytes for future in self._bases.values() if future.exception() is None)
        return used + weight_bytes(base_dir, self._settings) <= self.limit_bytes

    def _make_room(self, wanted: int, base_dir: Path, future: "Future[_Base]") -> None:
        """Waits for loads beside which `wanted` bytes have no room, and unloads bases until they have it.

        A base larger than the limit is loaded alone.
        """
        while True:
            give_way()
            with self._lock:
                under_way = [load for load in self._begun.values() if not load.future.done()]
                needed = wanted + sum(load.nbytes for load in under_way)
                begins = not under_way or needed <= self.limit_bytes
                if begins:
                    self._begun[base_dir] = _Load(future, wanted)
                    evicted = self._take_out(needed, keep=base_dir)
            if begins:
                break
            if wait([load.future for load in under_way], LOOK_SECONDS, FIRST_COMPLETED).done:
                time.sleep(HANDOVER_SECONDS)
        for one in evicted:
            _unload(one)

    def _take_out(self, wanted: int, keep: Path) -> "list[Future[_Base]]":
        """The bases to unload until `wanted` bytes fit, or no other is left. The caller holds the lock."""
        loaded = {path: future for path, future in self._bases.items() if path != keep and future.done()}
        used = sum(future.result().nbytes for future in loaded.values())
        evicted = []
        for path, future in loaded.items():
            if used + wanted <= self.limit_bytes:
                break
            if not future.result().nbytes:
                continue
            used -= future.result().nbytes
            evicted.append(self._bases.pop(path))
        return evicted


def _remote(base_name: str) -> Callable[[Path, Settings], Engine]:
    from tunesmith.serve.vllm.loading import load_remote_engine

    return partial(load_remote_engine, base_name)


def _tuned(base_dir: Path) -> str:
    """The digest of a directory's own tuned weights: all of a model's may be, and a base may be such a model."""
    return read_manifest(base_dir).sha256 if (base_dir / MANIFEST_FILE).is_file() else NO_ADAPTER


def _unload(future: "Future[_Base]") -> None:
    future.add_done_callback(_close)


def _close(future: "Future[_Base]") -> None:
    if future.exception() is None:
        future.result().engine.close()


def _check(manifest: AdapterManifest, adapter_dir: Path | None, base: _Base) -> None:
    if adapter_dir is not None and manifest.base_fingerprint != base.fingerprint:
        raise unusable_adapter(
            adapter_dir,
            f"This model's adapter was trained on another version of {manifest.base_name} than the one here (its"
            " tokenizer or weights differ). Restore that base, or train again.",
        )


def _as_trained(manifest: AdapterManifest, base: _Base, base_dir: Path) -> tuple[Renderer, Grammars]:
    """The renderer with which the adapter was trained, the older one of its base if need be."""
    if manifest.renderer == base.renderer.name:
        return base.renderer, base.grammars
    renderer, grammars = _older(base_dir, base.fingerprint, remote=not base.nbytes)
    if manifest.renderer != renderer.name:
        raise ServerFault(
            f"A model tuned from {manifest.base_name} was trained with the renderer {manifest.renderer!r}, its base "
            f"now uses {base.renderer.name!r}. Train again, so that it sees at serving what it saw in training."
        )
    return renderer, grammars


@lru_cache(maxsize=8)
def _older(base_dir: Path, _fingerprint: str, *, remote: bool) -> tuple[Renderer, Grammars]:
    renderer = load_renderer(base_dir, native=False)
    return renderer, _grammars(renderer, remote=remote)


def _grammars(renderer: Renderer, *, remote: bool) -> Grammars:
    return Grammars(renderer, for_older_llguidance) if remote else Grammars(renderer)
