"""The criteria of an eval: graders, and from which score on a row passes.

Without `pass_threshold` a string_check or label_model passes with 1, a score_model from the middle of its range on,
python and multi from 0.5 on.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from tunesmith.graders.grader import (
    Grader,
    LabelModel,
    Leaf,
    ScoreModel,
    StringCheck,
    TextSimilarity,
    leaves,
    read_grader,
)
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.wire.faults import missing

PARAM = "testing_criteria"
HALF = 0.5
OF_SAMPLE = re.compile(r"\{\{\s*sample\b")


@dataclass(frozen=True, slots=True)
class Criterion:
    """A grader, and from which score on it is passed."""

    grader: Grader
    threshold: float

    @property
    def name(self) -> str:
        """As results are listed."""
        return self.grader.name

    @property
    def asks_a_model(self) -> bool:
        """Whether a model is a part of the judgement."""
        return any(isinstance(leaf, ScoreModel | LabelModel) for leaf in leaves(self.grader).values())


def read_criteria(values: Sequence[JsonValue]) -> tuple[Criterion, ...]:
    """The criteria of an eval. Raises InvalidRequest that names the field."""
    return tuple(_criterion(value, f"{PARAM}[{place}]") for place, value in enumerate(values))


def shown_criteria(values: Sequence[JsonValue], criteria: Sequence[Criterion]) -> tuple[JsonObject, ...]:
    """As they were sent, each with its name, which may have been made up."""
    return tuple({**cast(JsonObject, value), "name": one.name} for value, one in zip(values, criteria, strict=True))


def refers_to_sample(criterion: Criterion) -> bool:
    """Whether a text of it has a placeholder for an answer.

    What python code reads is not known.
    """
    texts = (text for leaf in leaves(criterion.grader).values() for text in _texts(leaf))
    return any(OF_SAMPLE.search(text) for text in texts)


def _criterion(value: JsonValue, param: str) -> Criterion:
    grader = read_grader(value, param)
    given = value.get("pass_threshold") if isinstance(value, dict) else None
    if given is None and isinstance(grader, TextSimilarity):
        raise missing(f"{param}.pass_threshold")
    return Criterion(grader, float(given) if isinstance(given, int | float) else _threshold(grader))


def _threshold(grader: Grader) -> float:
    if isinstance(grader, StringCheck | LabelModel):
        return 1.0
    return (grader.low + grader.high) / 2 if isinstance(grader, ScoreModel) else HALF


def _texts(leaf: Leaf) -> Iterator[str]:
    if isinstance(leaf, StringCheck | TextSimilarity):
        yield from (leaf.input, leaf.reference)
    elif isinstance(leaf, ScoreModel | LabelModel):
        yield from (text for _, text in leaf.messages)
