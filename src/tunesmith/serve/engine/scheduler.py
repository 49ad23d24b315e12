"""Continuous batching: which tokens go through the model next.

Every step runs one token of each decoding sequence (more where a draft predicts some) and a chunk of the prompts that
are still being read in a single forward pass; requests join and leave between any two steps. A sequence gets the tokens
it would get alone: its own sampler draws them one after another, and a drafted token is accepted only if the sampler
draws the same one.

Pure Python over two protocols, so that a property test can drive it with a model of its own. Not thread-safe: only the
engine's thread uses it.
"""

import math
import time
from collections import Counter
from collections.abc import Sequence
from typing import Generic

from tunesmith.render.prefix import common_prefix
from tunesmith.serve.engine.model import Model, SequenceChunk
from tunesmith.serve.engine.protocol import Delta, Finish, GenerateRequest, Generation
from tunesmith.serve.engine.sequences import AdapterT, RequestState, RowT, RunningSequence, WaitingChoice
from tunesmith.serve.engine.shares import first_to_leave, next_project, room_makers, split
from tunesmith.serve.engine.slots import CacheKey, Slots

PREFILL_CHUNK = 512  # prompt tokens of a step in which nothing is decoded
PREFILL_CHUNK_BESIDE_DECODE = 64  # and of a step with decoding sequences, whose next tokens wait for them
PREFILL_CHUNK_SCORED = 64  # and where the logits of all of them are needed: 12.6 MB for a vocabulary of 49,152
GROWTH = 128  # free positions that a sequence needs to start, in addition to its prompt
HELD_BACK = 16  # steps that the background sits out at most, one after another, while others wait for a first token
POLITE_SECONDS = 5.0  # after a chat: while chats come, the background's steps are short
POLITE_SEQUENCES = 4  # that take part in such a step, in turns
POLITE_CHUNK = 8  # prompt tokens of such a step
WORTH_WAITING = 64  # tokens: a request that shares this much of a prompt being prefilled waits for it


class Scheduler(Generic[AdapterT, RowT]):
    """Divides a model's steps among the requests it is given."""

    def __init__(
        self, model: Model[AdapterT, RowT], *, running: int, positions: int, slots: int = 0, reusable: bool = True
    ) -> None:
        """At most `running` choices share the steps, and keys and values of at most `positions` are kept.

        `slots` beyond `running` keep the prefixes of finished sequences. A request larger than `positions` runs alone.
        `reusable`: keys and values can be cut at any position, which sliding windows do not allow.
        """
        self._model = model
        self._running_limit, self._positions = running, positions
        self._slots = Slots(max(slots, running), model, reusable=reusable)
        self._reusable = reusable
        self._waiting: dict[str, list[WaitingChoice[RowT]]] = {}  # by project; the first one is served next
        self._running: list[RunningSequence[AdapterT, RowT]] = []
        self._held_back = 0  # steps that the background has sat out
        self.clock = time.monotonic
        self._polite_until = -math.inf  # steps before are short
        self._turn = 0  # of the background's sequences in short steps
        self._some_unwanted = False  # a choice that may wait: to look at all of them in each step would take long
        self.waiting_by_project: Counter[str] = Counter()  # requests that have not started; other threads may read it

    @property
    def waiting(self) -> int:
        """Requests that have not started."""
        return self.waiting_by_project.total()

    @property
    def busy(self) -> bool:
        """True if any sequence runs or waits."""
        return bool(self._running or self._waiting)

    def add(self, request: GenerateRequest, generation: Generation) -> None:
        """Queues the choices of a request, whose tokens go to `generation`."""
        choices = request.n if request.max_tokens else 1  # only the prompt's log-probabilities: once is enough
        state = RequestState(request, generation, choices, [*request.prompt])
        generation.on_unwanted = self._note_unwanted
        self._some_unwanted = True  # it may have been closed before
        self.waiting_by_project[request.project] += 1
        queue = self._waiting.setdefault(request.project, [])
        queue.extend(WaitingChoice(state, choice, state.prompt) for choice in range(choices))

    def step(self) -> None:
        """Runs one forward pass for all sequences that can take part.

        Returns at once if none can.
        """
        self._remove_unwanted()
        self._admit()
        self._preempt()
        planned = self._plan()
        if planned:
            self._forward([sequence for sequence, _ in planned], [chunk for _, chunk in planned])

    def abandon(self, error: BaseException) -> None:
        """Fails every running and waiting request with `error`."""
        for sequence in self._running:
            sequence.state.generation.fail(error)
            self._slots.discard(sequence.slot)
        for queue in self._waiting.values():
            for waiting in queue:
                waiting.state.generation.fail(error)
        self._running, self._waiting, self.waiting_by_project = [], {}, Counter()

    def _remove_unwanted(self) -> None:
        for sequence in [sequence for sequence in self._running if not sequence.wanted]:
            self._retire(sequence)
        if not self._some_unwanted:
            return
        self._some_unwanted = False
        for project, queue in [*self._waiting.items()]:
            for waiting in queue:
                if not waiting.wanted:
                    self._mark_started(waiting.state)
                    waiting.state.finish_choice()
            self._waiting[project] = [waiting for waiting in queue if waiting.wanted]
            if not self._waiting[project]:
                del self._waiting[project]

    def _note_unwanted(self) -> None:
        self._some_unwanted = True

    def _admit(self) -> None:
        """Starts waiting choices by the projects' shares, each in order, except those that wait for a prefix."""
        passed: set[str] = set()
        behind = {project for project, queue in self._waiting.items() if queue[0].background}
        while (project := next_project(self._waiting, self._running, passed, behind)) is not None:
            if room_makers(project, self._running, self._has_slot, background=project in behind) is None:
                return  # nor has any other project a better claim
            queue = self._waiting.pop(project)
            waiting = self._first_ready(queue)
            if waiting is None:
                passed.add(project)
            elif not self._make_room(project, waiting):  # overtaken again and again, it could starve
                self._waiting = {project: queue, **self._waiting}
                return
            else:
                queue.remove(waiting)
                self._start(waiting)
            if queue:
                self._waiting[project] = queue  # at the end: the next project comes first now

    def _first_ready(self, queue: "list[WaitingChoice[RowT]]") -> WaitingChoice[RowT] | None:
        """The first that gains nothing by waiting. Choices of one request stand together and share their tokens."""
        passed: list[int] | None = None
        for waiting in queue:
            if waiting.tokens is not passed and not self._is_better_off_later(waiting):
                return waiting
            passed = waiting.tokens
        return None

    def _make_room(self, project: str, waiting: WaitingChoice[RowT]) -> bool:
        """False where only the ends of other sequences can make room."""
        gone = room_makers(
            project,
            self._running,
            lambda left: self._has_slot(left) and self._fits(waiting, left),
            background=waiting.background,
        )
        for sequence in gone or ():
            self._slots.release(sequence.slot)  # where memory allows, it continues from the keys and values it has
            self._put_back(sequence)
        return gone is not None

    def _has_slot(self, running: "Sequence[RunningSequence[AdapterT, RowT]]") -> bool:
        return len(running) < self._running_limit

    def _fits(self, waiting: WaitingChoice[RowT], running: "Sequence[RunningSequence[AdapterT, RowT]]") -> bool:
        if not running:
            return True
        request = waiting.state.request
        remaining = request.max_tokens - (len(waiting.tokens) - len(request.prompt))
        used = sum(len(sequence.tokens) for sequence in running)
        return used + len(waiting.tokens) + min(GROWTH, remaining) <= self._positions

    def _used(self) -> int:
        """Positions that the running sequences occupy, or will after their prompts."""
        return sum(len(sequence.tokens) for sequence in self._running)

    def _is_better_off_later(self, waiting: WaitingChoice[RowT]) -> bool:
        """True while a running sequence prefills a prompt that begins like this one: waiting saves doing it twice."""
        if waiting.choice and waiting.state.unscored:  # the first choice scores the prompt for all
            return True
        if not self._reusable:
            return False
        key = _key(waiting.state.request)
        return any(
            _key(sequence.state.request) == key
            and min(common_prefix(sequence.tokens, waiting.tokens), len(waiting.tokens) - 1)
            >= len(sequence.slot.tokens) + WORTH_WAITING
            for sequence in self._running
            if sequence.prefilling
        )

    def _mark_started(self, state: RequestState) -> None:
        if not state.started:
            state.started = True
            self.waiting_by_project[state.request.project] -= 1

    def _start(self, waiting: WaitingChoice[RowT]) -> None:
        state, request = waiting.state, waiting.state.request
        self._mark_started(state)
        try:
            adapter = self._model.adapter(request)
            sampler = waiting.sampler or self._model.sampler(request, waiting.choice)
            drafter = self._model.drafter(request) if self._reusable else None
            slot, cached = self._slots.take(_key(request), waiting.tokens, reuse=not state.unscored)
        except Exception as error:  # fails this request only
            state.generation.fail(error)
            state.unfinished -= 1
            return
        if not waiting.preempted and waiting.choice == 0:
            state.generation.cached_tokens = cached
        if state.unscored:
            state.generation.prompt.clear()  # preempted half-way: scored again from the start
        tokens = [*waiting.tokens]
        read, length = len(tokens) - cached, len(tokens)
        self._running.append(
            RunningSequence(state, waiting.choice, tokens, sampler, slot, adapter, drafter, read, length)
        )

    def _preempt(self) -> None:
        """Evicts cached prefixes, then returns sequences to the queue, until the rest fits; one stays."""
        self._slots.evict(self._used() + self._slots.kept_positions - self._positions)
        while len(self._running) > 1 and self._used() > self._positions:
            sequence = first_to_leave(self._running)
            self._slots.discard(sequence.slot)
            self._put_back(sequence)

    def _put_back(self, sequence: RunningSequence[AdapterT, RowT]) -> None:
        """Has a sequence wait, before others of its project; the caller has freed its slot."""
        self._running.remove(sequence)
        waiting = WaitingChoice(sequence.state, sequence.choice, sequence.tokens, sequence.sampler, preempted=True)
        self._waiting[sequence.project] = [waiting, *self._waiting.get(sequence.project, [])]

    def _plan(self) -> "list[tuple[RunningSequence[AdapterT, RowT], SequenceChunk[AdapterT]]]":
        """The next token of every decoding sequence, and a chunk of the prompts being prefilled, oldest first."""
        running = self._taking_part()
        prefilling = [sequence for sequence in running if sequence.prefilling]
        beside = len(prefilling) < len(running)
        chunk = PREFILL_CHUNK_BESIDE_DECODE if beside else PREFILL_CHUNK
        if self._polite and all(sequence.background for sequence in prefilling):
            chunk = POLITE_CHUNK
        budget = split(_unread(prefilling), chunk)
        scored = split(_unread([one for one in prefilling if one.state.unscored]), PREFILL_CHUNK_SCORED)
        planned = []
        for sequence in running:
            piece = self._prefill(sequence, budget, scored) if sequence.prefilling else self._decode(sequence)
            if piece.ids:
                planned.append((sequence, piece))
        return sorted(planned, key=lambda pair: pair[1].slot)

    def _taking_part(self) -> "list[RunningSequence[AdapterT, RowT]]":
        """All, but those in the background sit out while somebody waits for a first token.

        Somebody who comes in the middle of a step waits for its end, so steps are short while others come.
        """
        behind = [sequence for sequence in self._running if sequence.background]
        others = [sequence for sequence in self._running if not sequence.background]
        if others:
            self._polite_until = self.clock() + POLITE_SECONDS
        if not behind:
            return others
        if any(sequence.prefilling for sequence in others) and self._held_back < HELD_BACK:
            self._held_back += 1
            return others
        self._held_back = 0
        if self._polite and len(behind) > POLITE_SEQUENCES:
            self._turn += POLITE_SEQUENCES
            behind = [behind[(self._turn + place) % len(behind)] for place in range(POLITE_SEQUENCES)]
        return [*others, *behind]

    @property
    def _polite(self) -> bool:
        return self.clock() < self._polite_until

    def _prefill(
        self, sequence: RunningSequence[AdapterT, RowT], budget: dict[str, int], scored: dict[str, int]
    ) -> SequenceChunk[AdapterT]:
        """As many tokens as the project has left of the step, which are taken from `budget` and `scored`."""
        project, unscored = sequence.project, sequence.state.unscored
        slot, start, tokens = sequence.slot, len(sequence.slot.tokens), sequence.tokens
        most = min(budget[project], scored[project]) if unscored else budget[project]
        ids, sequence.draft = tuple(tokens[start : start + most]), []
        budget[project] -= len(ids)
        if unscored:
            scored[project] -= len(ids)
        logits = len(ids) if unscored else int(start + len(ids) == len(tokens))
        return SequenceChunk(slot.number, start, ids, sequence.adapter, logits)

    def _decode(self, sequence: RunningSequence[AdapterT, RowT]) -> SequenceChunk[AdapterT]:
        sequence.draft = self._draft(sequence)
        ids = (sequence.tokens[-1], *sequence.draft)
        return SequenceChunk(sequence.slot.number, len(sequence.slot.tokens), ids, sequence.adapter, len(ids))

    def _draft(self, sequence: RunningSequence[AdapterT, RowT]) -> list[int]:
        if sequence.drafter is None:
            return []
        room = sequence.state.request.max_tokens - sequence.generated - 1
        return sequence.drafter.draft(sequence.tokens, len(self._running))[: max(0, room)]

    def _forward(
        self, sequences: "list[RunningSequence[AdapterT, RowT]]", chunks: "list[SequenceChunk[AdapterT]]"
    ) -> None:
        try:
            rows = self._model.forward(chunks)
        except Exception as error:
            if len(chunks) == 1:
                self._fail(sequences[0], error)
                return
            for sequence, chunk in zip(sequences, chunks, strict=True):  # one by one, to find the one at fault
                self._forward([sequence], [chunk])
            return
        first = 0
        for sequence, chunk in zip(sequences, chunks, strict=True):
            try:
                self._advance(sequence, chunk, rows[first : first + chunk.logits])
            except Exception as error:
                self._fail(sequence, error)
            first += chunk.logits

    def _advance(
        self, sequence: RunningSequence[AdapterT, RowT], chunk: SequenceChunk[AdapterT], rows: Sequence[RowT]
    ) -> None:
        """Takes a step's results: prompt log-probabilities, and the tokens that the draft got right, plus one."""
        sequence.slot.tokens.extend(chunk.ids[: len(chunk.ids) - len(sequence.draft)])
        rows = self._score(sequence, chunk, rows)
        if not sequence.state.request.max_tokens:
            if not sequence.state.unscored:
                self._retire(sequence)
            return
        deltas: list[Delta] = []
        finish: Finish | None = None
        for place, row in enumerate(rows):
            token, logprob, top = sequence.sampler.next(row)
            sequence.tokens.append(token)
            finish = _finish(sequence, token)
            deltas.append(Delta(sequence.choice, token, logprob, top, finish))
            if finish is not None or place >= len(sequence.draft) or token != sequence.draft[place]:
                break
            sequence.slot.tokens.append(token)
        if sequence.draft and sequence.drafter is not None:
            sequence.drafter.learn(len(sequence.draft), len(deltas) - 1)
        if deltas:
            sequence.state.generation.put(deltas)
        if finish is not None:
            self._retire(sequence)

    def _score(
        self, sequence: RunningSequence[AdapterT, RowT], chunk: SequenceChunk[AdapterT], rows: Sequence[RowT]
    ) -> Sequence[RowT]:
        """Records the prompt's log-probabilities; returns the rows that predict new tokens."""
        state = sequence.state
        unscored = state.unscored
        for token, row in zip(sequence.tokens[chunk.start + 1 :], rows[:unscored], strict=False):
            state.generation.prompt.append(Delta(sequence.choice, token, *sequence.sampler.score(row, token)))
        return rows[unscored:]

    def _retire(self, sequence: RunningSequence[AdapterT, RowT]) -> None:
        self._running.remove(sequence)
        self._slots.release(sequence.slot)
        sequence.state.finish_choice()

    def _fail(self, sequence: RunningSequence[AdapterT, RowT], error: BaseException) -> None:
        """Ends the request with `error`; its other choices are then unwanted."""
        self._running.remove(sequence)
        self._slots.discard(sequence.slot)
        sequence.state.generation.fail(error)
        sequence.state.unfinished -= 1


def _key(request: GenerateRequest) -> CacheKey:
    return request.project, request.adapter


def _finish(sequence: "RunningSequence[AdapterT, RowT]", token: int) -> Finish | None:
    request = sequence.state.request
    if token in request.eos_ids:
        return "stop"
    return "length" if sequence.generated >= request.max_tokens else None


def _unread(prefilling: "Sequence[RunningSequence[AdapterT, RowT]]") -> dict[str, int]:
    """Prompt tokens that are still to be read, by project."""
    unread: Counter[str] = Counter()
    for sequence in prefilling:
        unread[sequence.project] += len(sequence.tokens) - len(sequence.slot.tokens)
    return unread
