"""Both sides answer the same questions, and the answers are compared.

The models are asked through a function that the caller hands in, the two sides of a question one right after the other,
so that a machine that slows down slows both.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

from tunesmith.evals.answers import Answer, Pair
from tunesmith.evals.evaluation import Evaluation, evaluate
from tunesmith.evals.questions import Question

FoundT = TypeVar("FoundT")
Ask = Callable[[str, Question], Answer | str]  # (model, question) -> the answer, or why there is none
Side = tuple[str, Callable[[Question], Question]]  # a model, and what is made of a question before it is asked


@dataclass(frozen=True, slots=True)
class Answers:
    """The questions that all sides could be asked, and each side's answers in order."""

    questions: tuple[Question, ...]
    sides: tuple[tuple[Answer, ...], ...]
    left_out: tuple[tuple[int, str], ...]  # (line, reason)


def ask_sides(
    ask: Ask, sides: Sequence[Side], questions: Sequence[Question], concurrency: int, watch: Callable[[int], None]
) -> Answers:
    """Asks every question at every side, a few at a time.

    `watch` is told how many are done.
    """
    done = count(1)

    def one(question: Question) -> list[Answer] | str:
        found: list[Answer] = []
        for model, prompt in sides:
            answer = ask(model, prompt(question))
            if isinstance(answer, str):
                break
            found.append(answer)
        watch(next(done))
        return answer if isinstance(answer, str) else found

    rows = _in_threads(one, questions, concurrency)
    whole = [(question, row) for question, row in zip(questions, rows, strict=True) if not isinstance(row, str)]
    return Answers(
        tuple(question for question, _ in whole),
        tuple(tuple(row[place] for _, row in whole) for place in range(len(sides))),
        tuple((question.line, row) for question, row in zip(questions, rows, strict=True) if isinstance(row, str)),
    )


def _in_threads(one: Callable[[Question], FoundT], questions: Sequence[Question], concurrency: int) -> list[FoundT]:
    """Stops at the first question that raises."""
    with ThreadPoolExecutor(concurrency) as pool:
        try:
            return list(pool.map(one, questions))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class Asking:
    """Asks both sides every question, a few at a time.

    `watch` is told how many are done.
    """

    def __init__(self, ask: Ask, watch: Callable[[int], None], concurrency: int) -> None:
        self._ask = ask
        self._watch = watch
        self._concurrency = concurrency
        self._lock = threading.Lock()
        self._done = 0

    def run(self, questions: Sequence[Question], before: str, after: str) -> Evaluation:
        """The evaluation of `after` against `before`."""
        found = self._ask_all(questions, before, after)
        pairs = [one for one in found if isinstance(one, Pair)]
        return evaluate(before, after, pairs, [one for one in found if not isinstance(one, Pair)])

    def pairs(self, questions: Sequence[Question], before: str, after: str) -> list[Pair]:
        """The answers to the questions that both sides could be asked."""
        return [one for one in self._ask_all(questions, before, after) if isinstance(one, Pair)]

    def _ask_all(self, questions: Sequence[Question], before: str, after: str) -> list[Pair | tuple[int, str]]:
        return _in_threads(lambda one: self._both(one, before, after), questions, self._concurrency)

    def _both(self, question: Question, before: str, after: str) -> Pair | tuple[int, str]:
        first = self._ask(before, question)
        second = self._ask(after, question) if isinstance(first, Answer) else first
        with self._lock:
            self._done += 1
            self._watch(self._done)
        if isinstance(first, Answer) and isinstance(second, Answer):
            return Pair(question, first, second)
        return question.line, str(second)
