"""Was the prompt worth shortening? One task asked in four ways, paired row by row.

The base with the long prompt, the base with examples in the prompt, the tuned model with the long prompt, and the tuned
model with the short one that the rows have.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import mean, median

from tunesmith.evals.answers import Answer
from tunesmith.evals.comparison import Outcome, deciding_criterion, outcome, sentence, with_p
from tunesmith.evals.questions import Question
from tunesmith.evals.statistics import Interval, holm
from tunesmith.jsonvalue import JsonObject

SHOTS = 4  # examples in the prompt


@dataclass(frozen=True, slots=True)
class Way:
    """A model, and what is made of a row's prompt before it is asked."""

    name: str
    model: str
    prompt: Callable[[Question], Question]
    tuned: bool


@dataclass(frozen=True, slots=True)
class WayResult:
    """How well one way answers and what it takes.

    `outcome` compares it with the first way, which has none; `shortened` compares the tuned model's short prompt with
    its long one.
    """

    way: Way
    criterion: str
    score: Interval
    prompt_tokens: float  # of one call, as the others are
    tokens: float
    seconds: float
    outcome: Outcome | None
    shortened: Outcome | None = None

    def to_json(self) -> JsonObject:
        """Names and numbers, with the sentences of the comparisons."""
        return {
            "way": self.way.name,
            "model": self.way.model,
            "criterion": self.criterion,
            "score": {"value": self.score.value, "low": self.score.low, "high": self.score.high},
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.tokens,
            "median_seconds": self.seconds,
            "against_first": None if self.outcome is None else sentence(self.outcome),
            "against_long": None if self.shortened is None else sentence(self.shortened),
        }


def four_ways(base: str, tuned: str, long: str, examples: Sequence[Question]) -> tuple[Way, ...]:
    """The ways; `examples` are rows of the training file, with their answers."""

    def with_long(question: Question) -> Question:
        return _with_system(question, long)

    def with_examples(question: Question) -> Question:
        return _with_shots(question, examples)

    return (
        Way("base, long prompt", base, with_long, tuned=False),
        Way("base, examples", base, with_examples, tuned=False),
        Way("tuned, long prompt", tuned, with_long, tuned=True),
        Way("tuned, short prompt", tuned, lambda question: question, tuned=True),
    )


def shots(training: Sequence[Question], questions: Sequence[Question], count: int = SHOTS) -> list[Question]:
    """The first rows that are one exchange and no question of the evaluation."""
    asked = [one.messages for one in questions]
    plain = (one for one in training if one.answer and one.messages not in asked and len(_turns(one)) == 1)
    return [one for one, _ in zip(plain, range(count), strict=False)]


def compare_ways(
    ways: Sequence[Way], questions: Sequence[Question], answers: Sequence[Sequence[Answer]]
) -> list[WayResult]:
    """The result of each of `four_ways`, by the criterion that decides for these rows.

    `answers`: of each way, in order.
    """
    criterion = deciding_criterion(questions)
    replies = [[one.reply for one in side] for side in answers]
    found = [outcome(criterion, questions, replies[0], side, decides=True) for side in replies]
    found.append(outcome(criterion, questions, replies[-2], replies[-1], decides=True))
    corrected = holm({place: one.p for place, one in enumerate(found) if one is not None and place})
    compared = [with_p(one, corrected[place]) if one is not None and place else None for place, one in enumerate(found)]
    return [
        WayResult(
            way,
            criterion.name,
            Interval(0.0, 0.0, 0.0) if one is None else one.after,
            mean(answer.prompt_tokens for answer in side),
            mean(answer.tokens for answer in side),
            median(answer.seconds for answer in side),
            compared[place],
            compared[-1] if place == len(ways) - 1 else None,
        )
        for place, (way, side, one) in enumerate(zip(ways, answers, found[:-1], strict=True))
    ]


def _with_system(question: Question, text: str) -> Question:
    return replace(question, messages=({"role": "system", "content": text}, *_turns(question)))


def _with_shots(question: Question, examples: Sequence[Question]) -> Question:
    system = tuple(one for one in question.messages if one.get("role") in ("system", "developer"))
    shown = [message for one in examples for message in (*_turns(one), one.answer)]
    return replace(question, messages=(*system, *shown, *_turns(question)))


def _turns(question: Question) -> tuple[JsonObject, ...]:
    return tuple(one for one in question.messages if one.get("role") not in ("system", "developer"))
