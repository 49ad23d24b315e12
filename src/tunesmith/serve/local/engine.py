"""The in-process engine: one thread per base runs the scheduler's steps.

All computing for a base happens on its thread; callers' threads and the event loop only wait on a `Generation`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Condition, Thread

import structlog

from tunesmith.errors import InvalidRequest, ServiceUnavailable
from tunesmith.models.answers import read_answers
from tunesmith.models.directory import fingerprint
from tunesmith.serve.engine.prompt_lookup import NgramIndex
from tunesmith.serve.engine.protocol import GenerateRequest, Generation
from tunesmith.serve.engine.scheduler import Scheduler
from tunesmith.serve.local.loading import load_runner
from tunesmith.serve.local.model import LocalModel
from tunesmith.serve.local.runner import Runner
from tunesmith.settings import Settings
from tunesmith.system.cpu import cpu_count
from tunesmith.system.memory import total_memory

SLOTS = 2  # per running choice: one in use, one that keeps the prefix of a finished sequence

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What an engine may take of the machine."""

    threads: int  # at most
    running: int  # choices that share the steps, fewer where their keys and values would exceed `cache_bytes`
    waiting: int  # requests of a project that may queue
    adapter_bytes: int  # beyond it adapters are evicted, least recently used first
    cache_bytes: int  # for keys and values
    drafts: bool = True

    @classmethod
    def from_settings(cls, settings: Settings) -> "EngineOptions":
        """The options of the settings; 0 there means by this machine's resources."""
        return cls(
            threads=settings.serve_threads or cpu_count(),
            running=settings.chat_running,
            waiting=settings.chat_waiting,
            adapter_bytes=settings.serve_adapter_mib * 2**20,
            cache_bytes=settings.serve_cache_mib * 2**20 or total_memory() // 8,
            drafts=settings.serve_prompt_lookup,
        )


def load_engine(base_dir: Path, settings: Settings) -> "LocalEngine":
    """The base in `base_dir`, ready to answer. Takes seconds."""
    runner, width = load_runner(base_dir, settings)
    return LocalEngine(
        runner,
        EngineOptions.from_settings(settings),
        fingerprint=f"{fingerprint(base_dir)} {width}",
        answers=read_answers(base_dir),
    )


class LocalEngine:
    """An `Engine` whose model runs in this process."""

    def __init__(
        self, runner: Runner, options: EngineOptions, *, fingerprint: str, answers: Iterable[Sequence[int]] = ()
    ) -> None:
        """Starts the engine's thread. `answers`: token ids that the base itself was tuned on, for drafts."""
        self.context_length = runner.context_length
        self.fingerprint = fingerprint
        self._vocabulary = runner.vocabulary
        self._waiting_limit = options.waiting
        index = NgramIndex(answers)
        model = LocalModel(runner, options.adapter_bytes, index, threads=options.threads, drafts=options.drafts)
        self._scheduler = Scheduler(
            model,
            running=options.running,
            positions=options.cache_bytes // runner.token_bytes,
            slots=SLOTS * options.running,
            reusable=runner.rewinds,
        )
        self._arrived: list[tuple[GenerateRequest, Generation]] = []
        self._changed = Condition()
        self._closing = False
        self._thread = Thread(target=self._run, name="tunesmith-engine", daemon=True)
        self._thread.start()

    def submit(self, request: GenerateRequest) -> Generation:
        """Queues the request.

        Raises ServiceUnavailable if the queue is full or the engine is closing, and InvalidRequest for a token that the
        weights do not know.
        """
        self._check_tokens(request)
        generation = Generation(request.n)
        with self._changed:
            if self._closing:
                raise ServiceUnavailable("This model is being unloaded; try again.", code="model_unloading")
            if self._queued(request.project) >= self._waiting_limit:
                raise ServiceUnavailable(
                    f"{self._waiting_limit} requests are already waiting for this model; try again later.",
                    code="server_is_overloaded",
                )
            self._arrived.append((request, generation))
            self._changed.notify_all()
        return generation

    def _check_tokens(self, request: GenerateRequest) -> None:
        """Compiled code reads an embedding where the token says that it is."""
        biased = max((token for token, _ in request.logit_bias), default=0)
        highest = max(biased, max(request.prompt, default=0))
        if highest >= self._vocabulary:
            raise InvalidRequest(
                f"Token {highest} of this model's tokenizer is not in its weights, which know the tokens 0 to"
                f" {self._vocabulary - 1}. Leave out the text that stands for it.",
                code="unknown_token",
            )

    def close(self) -> None:
        """Refuses new requests; the thread ends once those under way are answered."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def join(self, timeout: float | None = None) -> None:
        """Waits, after `close`, until all requests are answered; at most `timeout` s."""
        self._thread.join(timeout)

    @property
    def waiting(self) -> int:
        """Requests that have not started."""
        with self._changed:
            return self._queued()

    @property
    def alive(self) -> bool:
        """True while the thread that generates runs."""
        return self._thread.is_alive()

    def _queued(self, project: str | None = None) -> int:
        self._arrived = [(request, generation) for request, generation in self._arrived if not generation.closed]
        if project is None:
            return len(self._arrived) + self._scheduler.waiting
        arrived = sum(request.project == project for request, _ in self._arrived)
        return arrived + self._scheduler.waiting_by_project[project]

    def _run(self) -> None:
        while self._receive():
            try:
                self._scheduler.step()
            except Exception as error:  # a fault of ours: no reader may wait for ever
                log.exception("engine step failed")
                self._scheduler.abandon(error)

    def _receive(self) -> bool:
        """Waits for work and passes new requests to the scheduler; False once it is closed and idle."""
        with self._changed:
            self._changed.wait_for(lambda: self._arrived or self._scheduler.busy or self._closing)
            for request, generation in self._arrived:
                self._scheduler.add(request, generation)
            self._arrived = []
        return self._scheduler.busy
