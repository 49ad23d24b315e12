"""The in-process engine: one thread per base that gives every running request a step in turn.

A step is one piece of prompt or one token of each of a request's choices, so a long answer does not hold up a short
one. The queue is first come, first served. All torch work of a base happens on its thread; the caller's threads and the
event loop only wait on a `Generation`.
"""

import os
import time
from collections import OrderedDict, deque
from pathlib import Path
from threading import Condition, Thread

import torch

from tunesmith.errors import ServiceUnavailable
from tunesmith.models.directory import fingerprint
from tunesmith.models.weights import load_model
from tunesmith.serve.engine import Delta, Finish, GenerateRequest, Generation
from tunesmith.serve.lean import LeanRunner, supports
from tunesmith.serve.lora import Adapter
from tunesmith.serve.memory import machine_memory
from tunesmith.serve.runner import Batch, Runner, TransformersRunner
from tunesmith.serve.sampling import Sampler
from tunesmith.serve.threads import ThreadChooser
from tunesmith.settings import Settings

PREFILL_TOKENS = 512  # prompt tokens per step: about half a second of two cores for 135M parameters
CHOICES_AT_ONCE = 8  # more choices than this are decoded group by group, which bounds the cache's memory


def load_engine(base_dir: Path, settings: Settings) -> "TorchEngine":
    """The base in `base_dir`, ready to answer. Takes seconds; imports torch."""
    model = load_model(base_dir, torch.float32)
    return TorchEngine(
        LeanRunner(model) if supports(model.config) else TransformersRunner(model),
        fingerprint=f"{fingerprint(base_dir)} float32",
        threads=settings.serve_threads or os.cpu_count() or 1,
        running=settings.chat_running,
        waiting=settings.chat_waiting,
        adapter_bytes=settings.serve_adapter_mib * 2**20,
        cache_bytes=settings.serve_cache_mib * 2**20 or machine_memory() // 8,
    )


class TorchEngine:
    def __init__(
        self,
        runner: Runner,
        *,
        fingerprint: str,
        threads: int,
        running: int,
        waiting: int,
        adapter_bytes: int,
        cache_bytes: int,
    ) -> None:
        """At most `running` requests share the steps, fewer where their keys and values might pass `cache_bytes`;

        `waiting` more may queue. Adapters beyond `adapter_bytes` are dropped, least recently used first.
        """
        self._runner = runner
        self.context_length = runner.context_length
        self.fingerprint = fingerprint
        self._running_limit, self._waiting_limit, self._cache_bytes = running, waiting, cache_bytes
        self._adapters = _Adapters(runner, adapter_bytes)
        self._waiting: deque[_Sequence] = deque()
        self._changed = Condition()
        self._closing = False
        self._thread = Thread(target=self._run, args=(threads,), name="tunesmith-engine", daemon=True)
        self._thread.start()

    def submit(self, request: GenerateRequest) -> Generation:
        generation = Generation(request.n)
        with self._changed:
            if self._closing:
                raise ServiceUnavailable("This model is being unloaded; try again.", code="model_unloading")
            if len(self._waiting) >= self._waiting_limit:
                self._waiting = deque(sequence for sequence in self._waiting if not sequence.generation.closed)
            if len(self._waiting) >= self._waiting_limit:
                raise ServiceUnavailable(
                    f"{self._waiting_limit} requests are already waiting for this model; try again later.",
                    code="server_is_overloaded",
                )
            self._waiting.append(_Sequence(request, generation, self._runner.new_batch()))
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
            return len(self._waiting)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self, threads: int) -> None:
        chooser = ThreadChooser(threads)
        running: deque[_Sequence] = deque()
        with torch.inference_mode():
            while self._admit(running):
                sequence = running.popleft()
                torch.set_num_threads(chooser.threads)  # holds for this thread's work only
                rows, started = sequence.decoding, time.perf_counter()
                if self._step(sequence):
                    running.append(sequence)
                if rows:
                    chooser.note(rows, time.perf_counter() - started)

    def _admit(self, running: "deque[_Sequence]") -> bool:
        """Moves waiting requests to `running`; sleeps while there are none; False when it is time to end."""
        with self._changed:
            self._changed.wait_for(lambda: running or self._waiting or self._closing)
            while self._waiting and self._has_room(running, self._waiting[0]):
                running.append(self._waiting.popleft())
        return bool(running)

    def _has_room(self, running: "deque[_Sequence]", sequence: "_Sequence") -> bool:
        """A request that is too large for the limit runs alone."""
        positions = sum(other.positions for other in (*running, sequence))
        fits = len(running) < self._running_limit and positions * self._runner.token_bytes <= self._cache_bytes
        return fits or not running

    def _step(self, sequence: "_Sequence") -> bool:
        """False when the request is finished, failed or no longer wanted."""
        try:
            goes_on = sequence.step(self._adapters)
        except Exception as error:  # the request's failure is its reader's to see, and not the other requests'
            sequence.generation.fail(error)
            return False
        if not goes_on:
            sequence.generation.end()
        return goes_on


class _Sequence:
    """One request on its way: prompt in pieces, then its choices in groups that share the prompt's keys and values."""

    def __init__(self, request: GenerateRequest, generation: Generation, prompt: Batch) -> None:
        self.request = request
        self.generation = generation
        self._prompt = prompt
        self._fed = 0
        self._adapter: Adapter | None = None
        self._first_logits_1V: torch.Tensor | None = None
        self._groups = deque(_groups(request.n))
        self._group: _Group | None = None

    @property
    def positions(self) -> int:
        """Most positions of keys and values that this request can come to hold at once."""
        rows = 1 if self.request.n == 1 else min(self.request.n, CHOICES_AT_ONCE) + 1  # the prompt's own stays
        return rows * (len(self.request.prompt) + self.request.max_tokens)

    @property
    def decoding(self) -> int:
        """Choices that the next step gives a token each; 0 while the prompt is read."""
        return 0 if self._group is None else self._group.rows

    def step(self, adapters: "_Adapters") -> bool:
        """False when there is nothing left to do."""
        if self.generation.closed:
            return False
        if self._fed == 0:
            self._adapter = adapters.get(self.request.adapter)
        if self._first_logits_1V is None:
            self._prefill()
            return True
        if self._group is None:
            self._group = self._next_group()
            self.generation.put(self._group.begin(self._first_logits_1V))
        else:
            self.generation.put(self._group.step(self._adapter, self.generation))
        if self._group.done:
            self._group = None
        return self._group is not None or bool(self._groups)

    def _prefill(self) -> None:
        piece = self.request.prompt[self._fed : self._fed + PREFILL_TOKENS]
        logits_1V = self._prompt.forward(torch.tensor([piece]), self._adapter)
        self._fed += len(piece)
        if self._fed == len(self.request.prompt):
            self._first_logits_1V = logits_1V

    def _next_group(self) -> "_Group":
        choices = self._groups.popleft()
        # The last group may write into the prompt's own keys and values when it is alone in it.
        alone = len(choices) == 1 and not self._groups
        return _Group(self.request, choices, self._prompt if alone else self._prompt.repeat(len(choices)))


def _groups(n: int) -> list[tuple[int, ...]]:
    return [tuple(range(first, min(first + CHOICES_AT_ONCE, n))) for first in range(0, n, CHOICES_AT_ONCE)]


class _Group:
    """Choices decoded together, one token each per step."""

    def __init__(self, request: GenerateRequest, choices: tuple[int, ...], batch: Batch) -> None:
        self._request = request
        self._choices = list(choices)
        self._samplers = {choice: Sampler(request, choice) for choice in choices}
        self._batch = batch
        self._tokens: list[int] = []
        self._made = 0

    @property
    def rows(self) -> int:
        return len(self._choices)

    @property
    def done(self) -> bool:
        return not self._choices

    def begin(self, first_logits_1V: torch.Tensor) -> list[Delta]:
        return self._sample(first_logits_1V.expand(len(self._choices), -1))

    def step(self, adapter: Adapter | None, generation: Generation) -> list[Delta]:
        self._keep([row for row, choice in enumerate(self._choices) if generation.wanted(choice)])
        if self.done:
            return []
        return self._sample(self._batch.forward(torch.tensor(self._tokens).unsqueeze(1), adapter))

    def _sample(self, logits_BV: torch.Tensor) -> list[Delta]:
        self._made += 1
        deltas = []
        for row, choice in enumerate(self._choices):
            token, logprob, top = self._samplers[choice].next(logits_BV[row])
            deltas.append(Delta(choice, token, logprob, top, self._finish(token)))
        self._tokens = [delta.token for delta in deltas]
        self._keep([row for row, delta in enumerate(deltas) if delta.finish is None])
        return deltas

    def _finish(self, token: int) -> Finish | None:
        if token in self._request.eos_ids:
            return "stop"
        return "length" if self._made >= self._request.max_tokens else None

    def _keep(self, rows: list[int]) -> None:
        if len(rows) == len(self._choices):
            return
        self._choices = [self._choices[row] for row in rows]
        self._tokens = [self._tokens[row] for row in rows]
        if rows:
            self._batch.keep(rows)


class _Adapters:
    """The adapters in memory, least recently used first."""

    def __init__(self, runner: Runner, limit_bytes: int) -> None:
        self._runner = runner
        self._limit_bytes = limit_bytes
        self._resident: OrderedDict[Path, Adapter] = OrderedDict()

    def get(self, directory: Path | None) -> Adapter | None:
        if directory is None:
            return None
        if directory not in self._resident:
            self._resident[directory] = self._runner.read_adapter(directory)
        self._resident.move_to_end(directory)
        while len(self._resident) > 1 and self._bytes() > self._limit_bytes:
            self._resident.popitem(last=False)
        return self._resident[directory]

    def _bytes(self) -> int:
        return sum(adapter.nbytes for adapter in self._resident.values())
