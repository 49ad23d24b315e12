"""Both sides answer the same questions, and the answers are compared.

The models are asked through a function that the caller hands in, the two sides of a question one right after the other,
so that a machine that slows down slows both.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median

from tunesmith.errors import InvalidRequest
from tunesmith.evals.comparison import Outcome, compare, sentence
from tunesmith.evals.criteria import Reply, is_refusal
from tunesmith.evals.questions import Question
from tunesmith.evals.statistics import Interval
from tunesmith.jsonvalue import JsonObject, JsonValue

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Answer:
    """What one side answered, and what it took.

    `model` is the name that the server says has answered; `fingerprint` the server's name for the weights that did.
    """

    reply: Reply
    model: str
    fingerprint: str
    prompt_tokens: int
    tokens: int
    seconds: float
    cut: bool = False


Ask = Callable[[str, Question], Answer | str]  # (model, question) -> the answer, or why there is none


@dataclass(frozen=True, slots=True)
class Pair:
    """One question with the answers of both sides."""

    question: Question
    before: Answer
    after: Answer


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The answers of both sides and what they say.

    `left_out` are questions that one side could not be asked.
    """

    before: str
    after: str
    pairs: tuple[Pair, ...]
    left_out: tuple[tuple[int, str], ...]  # (line, reason)
    outcomes: tuple[Outcome, ...]

    def to_json(self) -> JsonObject:
        """The whole evaluation, with every answer."""
        return {
            "object": "tunesmith.evaluation",
            "format_version": FORMAT_VERSION,
            "before": self.before,
            "after": self.after,
            "rows": len(self.pairs),
            "left_out": [{"line": line, "reason": reason} for line, reason in self.left_out],
            "verdict": self.outcomes[0].decision if self.outcomes else None,
            "sentences": [sentence(one) for one in self.outcomes],
            "criteria": [_outcome(one) for one in self.outcomes],
            "sides": [self._side(self.before, 0), self._side(self.after, 1)],
            "samples": [_pair(one) for one in self.pairs],
        }

    def side(self, index: int) -> "Side":
        """The sums of one side: 0 is the one before, 1 the one after."""
        answers = [one.after if index else one.before for one in self.pairs]
        return Side(
            prompt_tokens=sum(one.prompt_tokens for one in answers),
            tokens=sum(one.tokens for one in answers),
            median_seconds=median([one.seconds for one in answers]) if answers else 0.0,
            refusals=sum(is_refusal(one.reply) for one in answers),
            cut=sum(one.cut for one in answers),
        )

    def _side(self, model: str, index: int) -> JsonObject:
        side = self.side(index)
        return {
            "model": model,
            "prompt_tokens": side.prompt_tokens,
            "completion_tokens": side.tokens,
            "median_seconds": round(side.median_seconds, 3),
            "refusals": side.refusals,
            "cut": side.cut,
        }


@dataclass(frozen=True, slots=True)
class Side:
    """What one side's answers took, and how many refuse or were cut at the limit."""

    prompt_tokens: int
    tokens: int
    median_seconds: float
    refusals: int
    cut: int


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
        with ThreadPoolExecutor(self._concurrency) as pool:
            try:
                found = list(pool.map(lambda one: self._both(one, before, after), questions))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        pairs = tuple(one for one in found if isinstance(one, Pair))
        _require_two_sides(pairs, before, after)
        left_out = tuple(one for one in found if not isinstance(one, Pair))
        outcomes = compare(
            [one.question for one in pairs], [one.before.reply for one in pairs], [one.after.reply for one in pairs]
        )
        return Evaluation(before, after, pairs, left_out, tuple(outcomes))

    def _both(self, question: Question, before: str, after: str) -> Pair | tuple[int, str]:
        first = self._ask(before, question)
        second = self._ask(after, question) if isinstance(first, Answer) else first
        with self._lock:
            self._done += 1
            self._watch(self._done)
        if isinstance(first, Answer) and isinstance(second, Answer):
            return Pair(question, first, second)
        return question.line, str(second)


def _require_two_sides(pairs: Sequence[Pair], before: str, after: str) -> None:
    """Raises InvalidRequest where the same weights answered on both sides."""
    same = {one.before.fingerprint for one in pairs} & {one.after.fingerprint for one in pairs}
    if same:
        raise InvalidRequest(
            f"{before} and {after} were answered by the same weights ({', '.join(sorted(same))}): there is nothing to "
            "compare. Name another model with --against."
        )


def _outcome(one: Outcome) -> JsonObject:
    found: JsonObject = {
        "name": one.criterion.name,
        "decides": one.decides,
        "rows": one.rows,
        "before": _interval(one.before),
        "after": _interval(one.after),
        "difference": _interval(one.difference.mean),
        "p": one.p,
        "decision": one.decision,
        "rows_needed": one.rows_needed,
    }
    if one.table is not None:
        table = one.table
        found["table"] = {"both": table.both, "gained": table.gained, "lost": table.lost, "neither": table.neither}
    return found


def _interval(value: Interval) -> JsonObject:
    return {"value": value.value, "low": value.low, "high": value.high}


def _pair(one: Pair) -> JsonObject:
    return {
        "line": one.question.line,
        "messages": list(one.question.messages),
        "reference": _reply(one.question.reference),
        "before": _answer(one.before),
        "after": _answer(one.after),
    }


def _answer(one: Answer) -> JsonObject:
    return {
        **_reply(one.reply),
        "model": one.model,
        "fingerprint": one.fingerprint,
        "prompt_tokens": one.prompt_tokens,
        "completion_tokens": one.tokens,
        "seconds": round(one.seconds, 3),
        "cut": one.cut,
    }


def _reply(reply: Reply) -> JsonObject:
    calls: list[JsonValue] = [{"name": name, "arguments": arguments} for name, arguments in reply.calls]
    return {"text": reply.text, "tool_calls": calls}
