"""A model that is a function of the tokens, for tests of the scheduler."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from tunesmith.serve.engine.model import SequenceChunk
from tunesmith.serve.engine.prompt_lookup import Drafter, NgramIndex
from tunesmith.serve.engine.protocol import Delta, GenerateRequest, Generation
from tunesmith.serve.engine.scheduler import Scheduler

EOS = 0
WORDS = 7  # few, so that drafts are often right


def following(tokens: Sequence[int], adapter: str | None) -> int:
    """The fake model: the next token of a text, the same for ever."""
    return sha256(repr((tuple(tokens[-3:]), len(tokens) % 5, adapter)).encode()).digest()[0] % WORDS


class Row(tuple[tuple[int, ...], str | None]):
    """What the model knows at one place: all tokens up to there, and the adapter."""


class Draw:
    def next(self, row: Row) -> tuple[int, float | None, tuple[tuple[int, float], ...]]:
        return following(*row), None, ()

    def score(self, row: Row, token: int) -> tuple[float, tuple[tuple[int, float], ...]]:
        """Says which place it was asked about: how many tokens came before, and what it finds likeliest there."""
        return -float(len(row[0])), ((following(*row), 0.0),)


class FakeModel:
    """Keys and values are the tokens themselves: a wrong slot, position or copy shows in what comes out."""

    def __init__(self, positions: int) -> None:
        self.slots: dict[int, tuple[list[int], str | None]] = {}
        self.positions = positions
        self.passes = 0

    def forward(self, chunks: Sequence[SequenceChunk[str]]) -> list[Row]:
        self.passes += 1
        rows = []
        for chunk in chunks:
            held, _ = self.slots.setdefault(chunk.slot, ([], chunk.adapter))
            assert len(held) >= chunk.start
            del held[chunk.start :]
            held.extend(chunk.ids)
            self.slots[chunk.slot] = held, chunk.adapter
            ends = range(len(held) - chunk.logits + 1, len(held) + 1)
            rows += [Row((tuple(held[:end]), chunk.adapter)) for end in ends]
        assert len({chunk.slot for chunk in chunks}) == len(chunks)
        return rows

    def copy(self, source: int, target: int, length: int) -> None:
        held, adapter = self.slots[source]
        self.slots[target] = held[:length], adapter

    def clear(self, slot: int) -> None:
        self.slots.pop(slot, None)

    def sampler(self, request: GenerateRequest, choice: int) -> Draw:
        return Draw()

    def adapter(self, request: GenerateRequest) -> str | None:
        if request.adapter == Path("broken"):
            raise FileNotFoundError(request.adapter)
        return None if request.adapter is None else str(request.adapter)

    def drafter(self, request: GenerateRequest) -> Drafter:
        return Drafter(NgramIndex([[1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1]]))


def alone(request: GenerateRequest) -> list[int]:
    tokens = [*request.prompt]
    adapter = None if request.adapter is None else str(request.adapter)
    while len(tokens) - len(request.prompt) < request.max_tokens:
        tokens.append(following(tokens, adapter))
        if tokens[-1] in request.eos_ids:
            break
    return tokens[len(request.prompt) :]


def run(scheduler: "Scheduler[str, Row]", *requests: GenerateRequest) -> list[Generation]:
    generations = [Generation(request.n) for request in requests]
    for request, generation in zip(requests, generations, strict=True):
        scheduler.add(request, generation)
    while scheduler.busy:
        scheduler.step()
    return generations


def request(prompt: Sequence[int], count: int = 4, **options: object) -> GenerateRequest:
    return GenerateRequest(tuple(prompt), count, frozenset(), **options)  # type: ignore[arg-type]


def until_first_token(scheduler: "Scheduler[str, Row]", reader: Generation) -> int:
    """Steps from the request's arrival to its first token."""
    seen: list[int] = []
    put = reader.put
    reader.put = lambda deltas: (seen.append(1), put(deltas))[1]  # type: ignore[method-assign, func-returns-value]
    steps = 0
    while not seen:
        scheduler.step()
        steps += 1
        assert steps < 3000
    return steps


def finish(scheduler: "Scheduler[str, Row]", reader: Generation) -> list[Delta]:
    while not reader._ended:
        scheduler.step()
    return list(reader)
