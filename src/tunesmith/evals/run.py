"""Both sides answer the same questions, and the answers are compared.

The models are asked through a function that the caller hands in, the two sides of a question one right after the other,
so that a machine that slows down slows both.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from tunesmith.evals.answers import Answer, Pair
from tunesmith.evals.evaluation import Evaluation, evaluate
from tunesmith.evals.questions import Question

Ask = Callable[[str, Question], Answer | str]  # (model, question) -> the answer, or why there is none


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
        with ThreadPoolExecutor(self._concurrency) as pool:
            try:
                return list(pool.map(lambda one: self._both(one, before, after), questions))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _both(self, question: Question, before: str, after: str) -> Pair | tuple[int, str]:
        first = self._ask(before, question)
        second = self._ask(after, question) if isinstance(first, Answer) else first
        with self._lock:
            self._done += 1
            self._watch(self._done)
        if isinstance(first, Answer) and isinstance(second, Answer):
            return Pair(question, first, second)
        return question.line, str(second)
