"""Asks for every row that has no answer yet, a few at a time.

The rows are written in the file's order.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from tunesmith.jsonvalue import JsonObject
from tunesmith.replay.answer import Unusable, training_row, used_tokens
from tunesmith.replay.journal import Entry, Journal
from tunesmith.replay.questions import Question, read_questions
from tunesmith.replay.upstream import RowRefused, Tally, Upstream, UpstreamStopped
from tunesmith.system.atomic_write import rename_durably

FIRST_REFUSED = 5
Cost = Callable[[int, int, int], float]  # prompt tokens, those cached, completion tokens -> dollars


@dataclass(frozen=True, slots=True)
class Plan:
    """What to ask and what it may cost."""

    file: Path
    teacher: str
    parameters: JsonObject
    encoding: str  # in which a prompt is counted before it is asked
    most_tokens: int  # of one answer, for the reservation
    cost: Cost | None = None
    cap: float | None = None  # dollars; needs `cost`
    concurrency: int = 8


@dataclass(slots=True)
class Progress:
    """How far a run is; `asked` counts answers of this run only."""

    total: int
    done: int = 0
    asked: int = 0
    refused: int = 0
    spent: float = 0.0
    capped: bool = False
    tally: Tally = field(default_factory=Tally)


class Replay:
    """One run; `watch` is called after every answer."""

    def __init__(self, plan: Plan, journal: Journal, upstream: Upstream, watch: Callable[[Progress], None]) -> None:
        self._plan = plan
        self._journal = journal
        self._upstream = upstream
        self._watch = watch
        self._stopped: UpstreamStopped | None = None
        self._under_way = 0
        self._answered = asyncio.Event()
        self._provenance: JsonObject = {
            "teacher": plan.teacher,
            "upstream": upstream.address.host,
            "parameters": plan.parameters,
        }
        questions = [one.key for one in _questions(plan.file)]
        self.progress = Progress(len(questions), done=sum(key in journal for key in questions), tally=upstream.tally)
        self.progress.spent = journal.spent

    async def run(self) -> None:
        """Asks until every row is answered, the cap is reached, or `stop` is called.

        Raises UpstreamStopped where the upstream ends it; the answers under way are still taken.
        """
        waiting = (one for one in _questions(self._plan.file) if one.key not in self._journal)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._plan.concurrency):
                    group.create_task(self._work(waiting))
        finally:
            await self._upstream.close()
        if self._stopped is not None:
            raise self._stopped

    def stop(self) -> None:
        """Asks for no more rows; the answers under way are still taken."""
        self._upstream.halt()
        self._answered.set()

    async def _work(self, waiting: Iterator[Question]) -> None:
        for question in waiting:
            reserved = self._dollars(question.tokens(self._plan.encoding), 0, self._plan.most_tokens)
            if self._upstream.is_halted or not await self._can_pay(reserved):
                return
            self._journal.reserve(question.key, reserved)
            self._under_way += 1
            try:
                entry = await self._ask(question, reserved)
            except UpstreamStopped as stopped:
                if not self._upstream.is_halted:
                    self._stopped = stopped
                return self.stop()
            finally:
                self._under_way -= 1
            self._journal.add(entry)
            self._count(entry)
            self._answered.set()

    async def _can_pay(self, reserved: float) -> bool:
        """Whether the cap allows this row, now or when the answers under way have cost less than was reserved."""
        if self._plan.cap is None:
            return True
        while self._journal.spent + reserved > self._plan.cap:
            if not self._under_way or self._upstream.is_halted:
                self.progress.capped = not self._upstream.is_halted
                self._answered.set()
                return False
            self._answered.clear()
            await self._answered.wait()
        return True

    async def _ask(self, question: Question, reserved: float) -> Entry:
        body: JsonObject = {
            "model": self._plan.teacher,
            "messages": question.messages,
            **question.tools,
            **self._plan.parameters,
        }
        try:
            completion = await self._upstream.ask(body, question.key)
        except RowRefused as refused:
            self._give_up_early(refused)
            return Entry(question.key, 0.0, refused=refused.message)
        used = used_tokens(completion)
        cost = reserved if used is None else self._dollars(*used)
        try:
            return Entry(question.key, cost, training_row(question, completion, self._provenance))
        except Unusable as unusable:
            return Entry(question.key, cost, refused=str(unusable))

    def _give_up_early(self, refused: RowRefused) -> None:
        """Where all the first rows are refused, it is not the rows: a wrong parameter, say."""
        if self.progress.asked == self.progress.refused and self.progress.refused >= FIRST_REFUSED - 1:
            raise UpstreamStopped(f"Each of the first {FIRST_REFUSED} rows was refused. {refused.message}")

    def _dollars(self, prompt: int, cached: int, completion: int) -> float:
        return self._plan.cost(prompt, cached, completion) if self._plan.cost else 0.0

    def _count(self, entry: Entry) -> None:
        self.progress.done += 1
        self.progress.asked += 1
        self.progress.refused += entry.row is None
        self.progress.spent = self._journal.spent
        self._watch(self.progress)


@dataclass(frozen=True, slots=True)
class Written:
    """What a run left on the disk.

    `refused` pairs a line with why it has no answer to learn.
    """

    rows: int
    refused: tuple[tuple[int, str], ...]
    missing: int


def write_rows(file: Path, journal: Journal, output: Path) -> Written:
    """Writes the answered rows, in the file's order; `output` is replaced as a whole."""
    rows = missing = 0
    refused: list[tuple[int, str]] = []
    partial = output.with_name(f".{output.name}.partial")
    with contextlib.suppress(FileNotFoundError):
        partial.unlink()
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as lines:
        for question in _questions(file):
            if question.key not in journal:
                missing += 1
                continue
            entry = journal.entry(question.key)
            if entry.row is None:
                refused.append((question.line, entry.refused or ""))
            else:
                rows += 1
                lines.write(orjson.dumps(entry.row) + b"\n")
    if rows:
        rename_durably(partial, output)
    else:
        partial.unlink()
    return Written(rows, tuple(refused), missing)


def _questions(file: Path) -> Iterator[Question]:
    return (one for one in read_questions(file) if isinstance(one, Question))
