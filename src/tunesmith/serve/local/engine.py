"""The in-process engine: one thread per base, on which the scheduler's steps run through torch.

All torch work of a base happens on its thread; the caller's threads and the event loop only wait on a `Generation`.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Condition, Thread

import structlog
import torch
from torch import Tensor

from tunesmith.errors import ServiceUnavailable
from tunesmith.models.answers import read_answers
from tunesmith.models.directory import fingerprint
from tunesmith.serve.engine.prompt_lookup import Continuations, Drafter
from tunesmith.serve.engine.protocol import GenerateRequest, Generation
from tunesmith.serve.engine.sampling import Sampler
from tunesmith.serve.engine.scheduler import Feed, Scheduler, Top
from tunesmith.serve.engine.thread_tuner import ThreadChooser
from tunesmith.serve.local.loading import load_runner
from tunesmith.serve.local.runner import AnyAdapter, Runner
from tunesmith.settings import Settings
from tunesmith.system.cpu import cpu_count
from tunesmith.system.memory import total_memory

SLOTS = 2  # for each running choice: one it uses, one that keeps what an ended one left

log = structlog.get_logger(__name__)


def load_engine(base_dir: Path, settings: Settings) -> "TorchEngine":
    """The base in `base_dir`, ready to answer. Takes seconds; imports torch."""
    runner, width = load_runner(base_dir, settings)
    return TorchEngine(
        runner,
        fingerprint=f"{fingerprint(base_dir)} {width}",
        book=read_answers(base_dir),
        threads=settings.serve_threads or cpu_count(),
        running=settings.chat_running,
        waiting=settings.chat_waiting,
        adapter_bytes=settings.serve_adapter_mib * 2**20,
        cache_bytes=settings.serve_cache_mib * 2**20 or total_memory() // 8,
        drafts=settings.serve_drafts,
    )


class TorchEngine:
    def __init__(
        self,
        runner: Runner,
        *,
        fingerprint: str,
        book: list[list[int]],
        threads: int,
        running: int,
        waiting: int,
        adapter_bytes: int,
        cache_bytes: int,
        drafts: bool = True,
    ) -> None:
        """At most `running` choices share the steps, fewer where their keys and values would pass `cache_bytes`;

        `waiting` requests may queue. `book`: answers that the base itself was tuned on. Adapters beyond `adapter_bytes`
        are dropped, least recently used first.
        """
        self.context_length = runner.context_length
        self.fingerprint = fingerprint
        self._waiting_limit = waiting
        self._scheduler = Scheduler(
            TorchModel(runner, adapter_bytes, Continuations(book), threads=threads, drafts=drafts),
            running=running,
            positions=cache_bytes // runner.token_bytes,
            slots=SLOTS * running,
            reusable=runner.rewinds,
        )
        self._arrived: list[tuple[GenerateRequest, Generation]] = []
        self._changed = Condition()
        self._closing = False
        self._thread = Thread(target=self._run, name="tunesmith-engine", daemon=True)
        self._thread.start()

    def submit(self, request: GenerateRequest) -> Generation:
        generation = Generation(request.n)
        with self._changed:
            if self._closing:
                raise ServiceUnavailable("This model is being unloaded; try again.", code="model_unloading")
            if self._in_line() >= self._waiting_limit:
                raise ServiceUnavailable(
                    f"{self._waiting_limit} requests are already waiting for this model; try again later.",
                    code="server_is_overloaded",
                )
            self._arrived.append((request, generation))
            self._changed.notify_all()
        return generation

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def join(self, timeout: float | None = None) -> None:
        """Waits until everything accepted is answered, after `close`."""
        self._thread.join(timeout)

    @property
    def waiting(self) -> int:
        """Requests that have not had their first step."""
        with self._changed:
            return self._in_line()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def _in_line(self) -> int:
        self._arrived = [(request, generation) for request, generation in self._arrived if not generation.closed]
        return len(self._arrived) + self._scheduler.waiting

    def _run(self) -> None:
        with torch.inference_mode():
            while self._receive():
                try:
                    self._scheduler.step()
                except Exception as error:  # a fault of ours: no reader may wait for ever, and the next may succeed
                    log.exception("engine step failed")
                    self._scheduler.abandon(error)

    def _receive(self) -> bool:
        """Hands what arrived to the scheduler; sleeps while there is nothing to do; False when it is time to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._arrived or self._scheduler.busy or self._closing)
            for request, generation in self._arrived:
                self._scheduler.add(request, generation)
            self._arrived = []
        return self._scheduler.busy


@dataclass(frozen=True, slots=True)
class Row:
    """The logits of one place, with the largest."""

    logits: Tensor  # [V]
    value: float
    likeliest: int


class RowSampler:
    """A choice's sampler; a plain greedy one has its answer without looking at the logits again."""

    def __init__(self, request: GenerateRequest, choice: int) -> None:
        self._sampler = Sampler(request, choice)

    def next(self, row: Row) -> tuple[int, float | None, Top]:
        if self._sampler.plain and not math.isnan(row.value):
            return row.likeliest, None, ()
        return self._sampler.next(row.logits)

    def score(self, row: Row, token: int) -> tuple[float, Top]:
        return self._sampler.score(row.logits, token)


class TorchModel:
    """What the scheduler drives: a runner's forward pass, and what belongs to a request: adapter, sampler, drafts."""

    def __init__(
        self, runner: Runner, adapter_bytes: int, book: Continuations, *, threads: int, drafts: bool = True
    ) -> None:
        self.runner = runner
        self._book = book
        self._drafts = drafts
        self._chooser = ThreadChooser(threads)
        self._adapters = _Adapters(runner, adapter_bytes)

    def forward(self, feeds: Sequence[Feed[AnyAdapter]]) -> list[Row]:
        logits_LV = self._forward(feeds)
        values, likeliest = logits_LV.max(dim=-1)
        return [*map(Row, logits_LV, values.tolist(), likeliest.tolist())]

    def _forward(self, feeds: Sequence[Feed[AnyAdapter]]) -> Tensor:
        """With as many threads as pay. They are set for the calling thread only, which is always the engine's."""
        reads = any(len(feed.ids) > feed.logits for feed in feeds)
        size = None if reads else sum(len(feed.ids) for feed in feeds).bit_length()
        torch.set_num_threads(self._chooser.threads(size))
        started = time.perf_counter()
        logits_LV = self.runner.forward(feeds)
        if size is not None:
            self._chooser.note(size, time.perf_counter() - started)
        return logits_LV

    def copy(self, source: int, target: int, length: int) -> None:
        self.runner.copy(source, target, length)

    def release(self, slot: int) -> None:
        self.runner.release(slot)

    def sampler(self, request: GenerateRequest, choice: int) -> RowSampler:
        return RowSampler(request, choice)

    def adapter(self, request: GenerateRequest) -> AnyAdapter | None:
        return None if request.adapter is None else self._adapters.get(request.adapter).adapter

    def drafter(self, request: GenerateRequest) -> Drafter | None:
        if not self._drafts:
            return None
        return Drafter(self._book if request.adapter is None else self._adapters.get(request.adapter).book)


@dataclass(frozen=True, slots=True)
class _Resident:
    adapter: AnyAdapter
    book: Continuations


class _Adapters:
    """The adapters in memory, least recently used first. Those in use stay as long as their requests hold them."""

    def __init__(self, runner: Runner, limit_bytes: int) -> None:
        self._runner = runner
        self._limit_bytes = limit_bytes
        self._resident: OrderedDict[Path, _Resident] = OrderedDict()

    def get(self, directory: Path) -> _Resident:
        if directory not in self._resident:
            self._resident[directory] = self._read(directory)
        self._resident.move_to_end(directory)
        while len(self._resident) > 1 and self._bytes() > self._limit_bytes:
            self._resident.popitem(last=False)
        return self._resident[directory]

    def _read(self, directory: Path) -> _Resident:
        return _Resident(self._runner.read_adapter(directory), Continuations(read_answers(directory)))

    def _bytes(self) -> int:
        return sum(resident.adapter.nbytes for resident in self._resident.values())
