"""Which tokens go through the model next, for all requests of a base: continuous batching.

Every step takes one token of each answer under way (more where a draft says what may come) and a piece of a prompt,
all in one pass through the model; a request joins and leaves between any two steps. What comes out for a sequence is
what it would get alone: its tokens are drawn one after the other by its own sampler, and a drafted token only counts
when the sampler draws it.

Pure Python over two protocols, so that a property test can drive it with a model of its own. Not thread-safe: the
engine's thread owns it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from tunesmith.serve.engine.prompt_lookup import Drafter
from tunesmith.serve.engine.protocol import Delta, Finish, GenerateRequest, Generation
from tunesmith.serve.engine.slots import CacheKey, Slot, Slots, Storage, shared_length

PIECE = 512  # prompt tokens of a step when no answer is under way
PIECE_BESIDE = 64  # when one is: its next token waits for them
PIECE_SCORED = 64  # when the logits of all of them are wanted: 12.6 MB at 49,152 of a vocabulary
GROWTH = 128  # positions that must be free for a sequence to start, beside its prompt's
WORTH_WAITING = 64  # tokens of a prompt that is being read; who shares them waits instead of reading them too

AdapterT = TypeVar("AdapterT")
RowT = TypeVar("RowT")
SeenT = TypeVar("SeenT", contravariant=True)
Top = tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Feed(Generic[AdapterT]):
    """Tokens that follow the first `start` positions of a slot. Logits are wanted after the last `logits` of them."""

    slot: int
    start: int
    ids: tuple[int, ...]
    adapter: AdapterT | None
    logits: int


class Sampling(Protocol[SeenT]):
    def next(self, row: SeenT) -> tuple[int, float | None, Top]:
        """Draws the sequence's next token: (token, its log-probability, the likeliest tokens with theirs)."""
        ...

    def score(self, row: SeenT, token: int) -> tuple[float, Top]:
        """How likely `token` is as the next one: (its log-probability, the likeliest tokens with theirs)."""
        ...


class Model(Storage, Protocol[AdapterT, RowT]):
    """What a scheduler drives."""

    def forward(self, feeds: "Sequence[Feed[AdapterT]]") -> Sequence[RowT]:
        """The wanted logits of all feeds, in their order, which is that of their slots."""
        ...

    def sampler(self, request: GenerateRequest, choice: int) -> Sampling[RowT]: ...

    def adapter(self, request: GenerateRequest) -> AdapterT | None:
        """Raises when the adapter cannot be had; only this request fails then."""
        ...

    def drafter(self, request: GenerateRequest) -> Drafter | None: ...


@dataclass(slots=True, eq=False)
class Ticket:
    """A request and what of it is not finished yet."""

    request: GenerateRequest
    generation: Generation
    left: int
    started: bool = False

    @property
    def unscored(self) -> int:
        """Tokens of the prompt whose log-probability was asked for and is not known yet."""
        wanted = len(self.request.prompt) - 1 if self.request.prompt_logprobs else 0
        return wanted - len(self.generation.prompt)

    def finished(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.generation.end()


@dataclass(slots=True, eq=False)
class _Answer(Generic[AdapterT, RowT]):
    """One choice of a request, on its way through the model."""

    ticket: Ticket
    choice: int
    tokens: list[int]  # the prompt and what was generated
    sampler: Sampling[RowT]
    slot: Slot
    adapter: AdapterT | None
    drafter: Drafter | None
    draft: list[int] = field(default_factory=list)  # of the step under way

    @property
    def made(self) -> int:
        return len(self.tokens) - len(self.ticket.request.prompt)

    @property
    def reading(self) -> bool:
        """True while its prompt is not all in the model."""
        return len(self.tokens) - len(self.slot.tokens) > 1

    @property
    def wanted(self) -> bool:
        return self.ticket.generation.wanted(self.choice)


@dataclass(slots=True, eq=False)
class _Waiting(Generic[RowT]):
    """A choice that is not in a slot: it has not begun, or had to make room."""

    ticket: Ticket
    choice: int
    tokens: list[int]
    sampler: Sampling[RowT] | None = None
    begun: bool = False

    @property
    def wanted(self) -> bool:
        return self.ticket.generation.wanted(self.choice)


class Scheduler(Generic[AdapterT, RowT]):
    def __init__(
        self, model: Model[AdapterT, RowT], *, running: int, positions: int, slots: int = 0, reusable: bool = True
    ) -> None:
        """At most `running` choices share the steps; keys and values of at most `positions` are kept.

        `slots` beyond `running` hold what ended sequences left behind. A request larger than `positions` runs alone.
        """
        self._model = model
        self._running_limit, self._positions = running, positions
        self._slots = Slots(max(slots, running), model, reusable=reusable)
        self._reusable = reusable
        self._waiting: dict[str, list[_Waiting[RowT]]] = {}  # by project; the first in the dict is served next
        self._running: list[_Answer[AdapterT, RowT]] = []
        self.waiting = 0  # requests of which nothing has begun; may be read by other threads

    @property
    def busy(self) -> bool:
        return bool(self._running or self._waiting)

    def add(self, request: GenerateRequest, generation: Generation) -> None:
        choices = request.n if request.max_tokens else 1  # who only has a prompt read has it read once
        ticket = Ticket(request, generation, choices)
        self.waiting += 1
        queue = self._waiting.setdefault(request.project, [])
        queue.extend(_Waiting(ticket, choice, [*request.prompt]) for choice in range(choices))

    def step(self) -> None:
        """One pass through the model for everything that can take part; returns at once when nothing can."""
        self._drop_unwanted()
        self._admit()
        self._make_room()
        planned = self._plan()
        if planned:
            self._forward([answer for answer, _ in planned], [feed for _, feed in planned])

    def abandon(self, error: BaseException) -> None:
        """Everything under way and waiting fails with `error`."""
        for answer in self._running:
            answer.ticket.generation.fail(error)
            self._slots.drop(answer.slot)
        for queue in self._waiting.values():
            for waiting in queue:
                waiting.ticket.generation.fail(error)
        self._running, self._waiting, self.waiting = [], {}, 0

    def _drop_unwanted(self) -> None:
        for answer in [answer for answer in self._running if not answer.wanted]:
            self._retire(answer)
        for project, queue in [*self._waiting.items()]:
            for waiting in queue:
                if not waiting.wanted:
                    self._left_the_queue(waiting.ticket)
                    waiting.ticket.finished()
            self._waiting[project] = [waiting for waiting in queue if waiting.wanted]
            if not self._waiting[project]:
                del self._waiting[project]

    def _admit(self) -> None:
        """Projects take turns; within one it is first come, first served, but for those who wait for a prefix."""
        blocked: set[str] = set()
        while len(self._running) < self._running_limit and self._slots.free:
            project = next((project for project in self._waiting if project not in blocked), None)
            if project is None:
                return
            queue = self._waiting.pop(project)
            waiting = next((waiting for waiting in queue if not self._is_better_off_later(waiting)), None)
            if waiting is not None and not self._fits(waiting):  # nobody overtakes it, or it might wait for ever
                self._waiting = {project: queue, **self._waiting}
                return
            if waiting is None:
                blocked.add(project)
            else:
                queue.remove(waiting)
                self._start(waiting)
            if queue:
                self._waiting[project] = queue  # at the end: the next project has its turn

    def _fits(self, waiting: _Waiting[RowT]) -> bool:
        if not self._running:
            return True
        rest = waiting.ticket.request.max_tokens - (len(waiting.tokens) - len(waiting.ticket.request.prompt))
        return self._used() + len(waiting.tokens) + min(GROWTH, rest) <= self._positions

    def _used(self) -> int:
        """Positions that the running answers hold or are about to."""
        return sum(len(answer.tokens) for answer in self._running)

    def _is_better_off_later(self, waiting: _Waiting[RowT]) -> bool:
        """A running request reads a prompt that begins like this one: to wait is cheaper than to read it twice."""
        if waiting.choice and waiting.ticket.unscored:  # the first choice reads the prompt and tells about it
            return True
        if not self._reusable:
            return False
        key = _key(waiting.ticket.request)
        return any(
            _key(answer.ticket.request) == key
            and shared_length(answer.tokens, waiting.tokens, len(waiting.tokens) - 1)
            >= len(answer.slot.tokens) + WORTH_WAITING
            for answer in self._running
            if answer.reading
        )

    def _left_the_queue(self, ticket: Ticket) -> None:
        if not ticket.started:
            ticket.started = True
            self.waiting -= 1

    def _start(self, waiting: _Waiting[RowT]) -> None:
        request = waiting.ticket.request
        self._left_the_queue(waiting.ticket)
        try:
            adapter = self._model.adapter(request)
            sampler = waiting.sampler or self._model.sampler(request, waiting.choice)
            drafter = self._model.drafter(request) if self._reusable else None
            slot, cached = self._slots.take(_key(request), waiting.tokens, reuse=not waiting.ticket.unscored)
        except Exception as error:  # the request's failure is its reader's to see, and not the other requests'
            waiting.ticket.generation.fail(error)
            waiting.ticket.left -= 1
            return
        if not waiting.begun and waiting.choice == 0:
            waiting.ticket.generation.cached_tokens = cached
        if waiting.ticket.unscored:
            waiting.ticket.generation.prompt.clear()  # had to make room half-way: it is read from the start again
        self._running.append(_Answer(waiting.ticket, waiting.choice, waiting.tokens, sampler, slot, adapter, drafter))

    def _make_room(self) -> None:
        """Forgets what is only kept, then sends the youngest answers back to the queue, but never the only one."""
        self._slots.forget(self._used() + self._slots.kept_positions - self._positions)
        while len(self._running) > 1 and self._used() > self._positions:
            youngest = self._running.pop()
            self._slots.drop(youngest.slot)
            waiting = _Waiting(youngest.ticket, youngest.choice, youngest.tokens, youngest.sampler, begun=True)
            project = youngest.ticket.request.project
            self._waiting[project] = [waiting, *self._waiting.get(project, [])]

    def _plan(self) -> "list[tuple[_Answer[AdapterT, RowT], Feed[AdapterT]]]":
        """A token of every answer that has its prompt read, and a piece of the prompts that have not, oldest first."""
        planned = []
        budget = PIECE_BESIDE if any(not answer.reading for answer in self._running) else PIECE
        scored = PIECE_SCORED
        for answer in self._running:
            slot, start, tokens = answer.slot, len(answer.slot.tokens), answer.tokens
            if answer.reading:
                unscored = answer.ticket.unscored
                ids, answer.draft = tuple(tokens[start : start + (min(budget, scored) if unscored else budget)]), []
                budget -= len(ids)
                scored -= len(ids) if unscored else 0
                logits = len(ids) if unscored else int(start + len(ids) == len(tokens))
            else:
                answer.draft = self._draft(answer)
                ids = (tokens[-1], *answer.draft)
                logits = len(ids)
            if ids:
                planned.append((answer, Feed(slot.number, start, ids, answer.adapter, logits)))
        return sorted(planned, key=lambda pair: pair[1].slot)

    def _draft(self, answer: _Answer[AdapterT, RowT]) -> list[int]:
        if answer.drafter is None:
            return []
        room = answer.ticket.request.max_tokens - answer.made - 1
        return answer.drafter.draft(answer.tokens, len(self._running))[: max(0, room)]

    def _forward(self, answers: "list[_Answer[AdapterT, RowT]]", feeds: "list[Feed[AdapterT]]") -> None:
        try:
            rows = self._model.forward(feeds)
        except Exception as error:
            if len(feeds) == 1:
                self._fail(answers[0], error)
                return
            for answer, feed in zip(answers, feeds, strict=True):  # whose fault it is shows alone
                self._forward([answer], [feed])
            return
        first = 0
        for answer, feed in zip(answers, feeds, strict=True):
            try:
                self._advance(answer, feed, rows[first : first + feed.logits])
            except Exception as error:
                self._fail(answer, error)
            first += feed.logits

    def _advance(self, answer: _Answer[AdapterT, RowT], feed: Feed[AdapterT], rows: Sequence[RowT]) -> None:
        answer.slot.tokens.extend(feed.ids[: len(feed.ids) - len(answer.draft)])
        rows = self._score(answer, feed, rows)
        if not answer.ticket.request.max_tokens:
            if not answer.ticket.unscored:
                self._retire(answer)
            return
        deltas: list[Delta] = []
        finish: Finish | None = None
        for place, row in enumerate(rows):
            token, logprob, top = answer.sampler.next(row)
            answer.tokens.append(token)
            finish = _finish(answer, token)
            deltas.append(Delta(answer.choice, token, logprob, top, finish))
            if finish is not None or place >= len(answer.draft) or token != answer.draft[place]:
                break
            answer.slot.tokens.append(token)
        if answer.draft and answer.drafter is not None:
            answer.drafter.learn(len(answer.draft), len(deltas) - 1)
        if deltas:
            answer.ticket.generation.put(deltas)
        if finish is not None:
            self._retire(answer)

    def _score(self, answer: _Answer[AdapterT, RowT], feed: Feed[AdapterT], rows: Sequence[RowT]) -> Sequence[RowT]:
        """Notes what `rows` say of the prompt's own next tokens; the rest, of no token yet, comes back."""
        unscored = answer.ticket.unscored
        for token, row in zip(answer.tokens[feed.start + 1 :], rows[:unscored], strict=False):
            answer.ticket.generation.prompt.append(Delta(answer.choice, token, *answer.sampler.score(row, token)))
        return rows[unscored:]

    def _retire(self, answer: _Answer[AdapterT, RowT]) -> None:
        self._running.remove(answer)
        self._slots.give(answer.slot)
        answer.ticket.finished()

    def _fail(self, answer: _Answer[AdapterT, RowT], error: BaseException) -> None:
        """The other choices of the request end with it: its reader has been told."""
        self._running.remove(answer)
        self._slots.drop(answer.slot)
        answer.ticket.generation.fail(error)
        answer.ticket.left -= 1


def _key(request: GenerateRequest) -> CacheKey:
    return request.project, request.adapter


def _finish(answer: "_Answer[AdapterT, RowT]", token: int) -> Finish | None:
    request = answer.ticket.request
    if token in request.eos_ids:
        return "stop"
    return "length" if answer.made >= request.max_tokens else None
