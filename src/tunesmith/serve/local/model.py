"""A runner as the scheduler's model, with each request's adapter and sampler."""

import math
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from numpy import float32
from numpy.typing import NDArray

from tunesmith.models.answers import read_answers
from tunesmith.serve.engine.model import SequenceChunk
from tunesmith.serve.engine.prompt_lookup import Drafter, NgramIndex
from tunesmith.serve.engine.protocol import GenerateRequest
from tunesmith.serve.engine.sampling import Sampler
from tunesmith.serve.engine.sequences import Top
from tunesmith.serve.engine.thread_tuner import ThreadTuner
from tunesmith.serve.local.runner import AnyAdapter, Runner


@dataclass(frozen=True, slots=True)
class Row:
    """The logits at one position, with the largest of them."""

    logits: NDArray[float32]  # [V]
    value: float
    likeliest: int


class RowSampler:
    """The sampler of one choice.

    A plain greedy one takes the likeliest token without reading the logits again.
    """

    def __init__(self, request: GenerateRequest, choice: int) -> None:
        self._sampler = Sampler(request, choice)

    def next(self, row: Row) -> tuple[int, float | None, Top]:
        """Draws the next token; a greedy choice takes the one found with the row."""
        if self._sampler.plain and not math.isnan(row.value):
            return row.likeliest, None, ()
        return self._sampler.next(row.logits)

    def score(self, row: Row, token: int) -> tuple[float, Top]:
        """The log-probability of `token` as the next, and the likeliest with theirs."""
        return self._sampler.score(row.logits, token)


class LocalModel:
    """A base and its adapters as the scheduler's `Model`."""

    def __init__(
        self, runner: Runner, adapter_bytes: int, ngram_index: NgramIndex, *, threads: int, drafts: bool = True
    ) -> None:
        """`adapter_bytes`: memory for adapters. `ngram_index`: of the answers that the base itself was tuned on."""
        self.runner = runner
        self._ngram_index = ngram_index
        self._drafts = drafts
        self._tuner = ThreadTuner(threads)
        self._adapters = _Adapters(runner, adapter_bytes)

    def forward(self, chunks: Sequence[SequenceChunk[AnyAdapter]]) -> list[Row]:
        """The requested logits of all chunks, a row each, in the chunks' order."""
        logits_LV = self._forward(chunks)
        likeliest = logits_LV.argmax(axis=1)  # a NaN where there is one
        values = logits_LV[range(len(logits_LV)), likeliest]
        return [*map(Row, logits_LV, values.tolist(), likeliest.tolist())]

    def _forward(self, chunks: Sequence[SequenceChunk[AnyAdapter]]) -> NDArray[float32]:
        """The logits, with the tuner's number of threads."""
        prefills = any(len(chunk.ids) > chunk.logits for chunk in chunks)
        size = None if prefills else sum(len(chunk.ids) for chunk in chunks).bit_length()
        threads = self._tuner.threads(size)
        started = time.perf_counter()
        logits_LV = self.runner.forward(chunks, threads)
        if size is not None:
            self._tuner.report(size, time.perf_counter() - started)
        return logits_LV

    def copy(self, source: int, target: int, length: int) -> None:
        """Copies the first `length` positions of one slot to another."""
        self.runner.copy(source, target, length)

    def clear(self, slot: int) -> None:
        """Empties a slot."""
        self.runner.clear(slot)

    def sampler(self, request: GenerateRequest, choice: int) -> RowSampler:
        """The sampler of one choice."""
        return RowSampler(request, choice)

    def adapter(self, request: GenerateRequest) -> AnyAdapter | None:
        """The request's adapter, read if it is not in memory; None for the bare base."""
        return None if request.adapter is None else self._adapters.get(request.adapter).adapter

    def drafter(self, request: GenerateRequest) -> Drafter | None:
        """Drafts from the texts that the base or the adapter was tuned on."""
        if not self._drafts:
            return None
        if request.adapter is None:
            return Drafter(self._ngram_index)
        return Drafter(self._adapters.get(request.adapter).ngram_index)


@dataclass(frozen=True, slots=True)
class _LoadedAdapter:
    adapter: AnyAdapter
    ngram_index: NgramIndex


class _Adapters:
    """The adapters in memory, least recently used first; an evicted one lives on while a request uses it."""

    def __init__(self, runner: Runner, limit_bytes: int) -> None:
        self._runner = runner
        self._limit_bytes = limit_bytes
        self._loaded: OrderedDict[Path, _LoadedAdapter] = OrderedDict()

    def get(self, directory: Path) -> _LoadedAdapter:
        """The adapter, read unless it is in memory; others are evicted beyond the limit."""
        if directory not in self._loaded:
            self._loaded[directory] = self._read(directory)
        self._loaded.move_to_end(directory)
        while len(self._loaded) > 1 and self._bytes() > self._limit_bytes:
            self._loaded.popitem(last=False)
        return self._loaded[directory]

    def _read(self, directory: Path) -> _LoadedAdapter:
        return _LoadedAdapter(self._runner.read_adapter(directory), NgramIndex(read_answers(directory)))

    def _bytes(self) -> int:
        return sum(loaded.adapter.nbytes for loaded in self._loaded.values())
