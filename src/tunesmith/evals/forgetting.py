"""The probe for forgetting: general questions, to be answered as well as before.

The set comes with Tunesmith (`general.jsonl`, made by `scripts/general_set.py`): six kinds, English and Chinese, each
question with a grader of its own. It tells what was unlearned, not how good a model is: the questions are easy, and
some are beyond small models.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import orjson

from tunesmith.evals.comparison import Outcome, outcome, sentence
from tunesmith.evals.criteria import Criterion, Reply
from tunesmith.evals.questions import Question
from tunesmith.evals.statistics import SEED
from tunesmith.jsonvalue import JsonObject, JsonValue

SET = Path(__file__).with_name("general.jsonl")
NAME = "general questions"
GENERAL_TOKENS = 32  # of an answer; the right ones are short
NUMBER = re.compile(r"-?\d+(?:[.,]\d+)*")


@dataclass(frozen=True, slots=True)
class Forgetting:
    """What the general questions say of both sides, all together and by kind."""

    overall: Outcome
    kinds: tuple[tuple[str, int, int, int], ...]  # (kind, rows, right before, right after)

    @property
    def found(self) -> bool:
        """Whether the tuned model answers fewer of them, at the 5 % level."""
        return self.overall.decision == "worse"

    @property
    def sentence(self) -> str:
        """In plain words, with a warning where something was forgotten."""
        said = sentence(self.overall)
        return f"Forgetting: {said}" if self.found else said

    def to_json(self) -> JsonObject:
        """Whether something was forgotten, the table, and each kind."""
        one = self.overall
        table: JsonObject = {}
        if one.table is not None:
            tabled = one.table
            table = {"both": tabled.both, "gained": tabled.gained, "lost": tabled.lost, "neither": tabled.neither}
        mean = one.difference.mean
        kinds: list[JsonValue] = [
            {"kind": kind, "rows": rows, "before": before, "after": after} for kind, rows, before, after in self.kinds
        ]
        return {
            "found": self.found,
            "rows": one.rows,
            "before": one.before.value,
            "after": one.after.value,
            "difference": {"value": mean.value, "low": mean.low, "high": mean.high},
            "p": one.p,
            "decision": one.decision,
            "table": table,
            "kinds": kinds,
        }


def general_questions() -> list[Question]:
    """The general set, in a fixed random order that mixes the kinds.

    The reference of each is its grader, as JSON.
    """
    questions = [
        Question(
            line=number,
            messages=({"role": "user", "content": str(row["question"])},),
            options={},
            reference=Reply(orjson.dumps(row).decode()),
        )
        for number, row in enumerate(_rows(), start=1)
    ]
    random.Random(SEED).shuffle(questions)
    return questions


def forgetting(questions: Sequence[Question], before: Sequence[Reply], after: Sequence[Reply]) -> Forgetting | None:
    """What general questions say of both sides; None without any."""
    found = outcome(Criterion(NAME, _judge), questions, before, after, decides=True)
    return None if found is None else Forgetting(found, tuple(_by_kind(questions, before, after)))


def is_right(answer: str, row: JsonObject) -> bool:
    """Whether an answer is right, by the row's own grader."""
    wanted = [str(one) for one in _list(row["answers"])]
    match row["grader"]:
        case "number":  # the last one that it names
            said = NUMBER.findall(answer)
            return bool(said) and said[-1].replace(",", "") in wanted
        case "contains":
            return any(_has(answer, one) for one in wanted)
        case "first":  # it begins with it
            return any(_has(answer.strip()[: len(one) + 12], one) for one in wanted)
        case "exact":
            return answer.strip().strip(".。\"'“”`").strip() in wanted
        case "json":
            return _is_json(answer, row["value"])
    raise ValueError(f"unknown grader {row['grader']!r}")


def _by_kind(
    questions: Sequence[Question], before: Sequence[Reply], after: Sequence[Reply]
) -> Iterator[tuple[str, int, int, int]]:
    rows = [_row(one.reference.text) for one in questions]
    for kind in sorted({str(row["kind"]) for row in rows}):
        places = [place for place, row in enumerate(rows) if row["kind"] == kind]
        right = [sum(is_right(side[place].text, rows[place]) for place in places) for side in (before, after)]
        yield kind, len(places), right[0], right[1]


def _judge(reply: Reply, reference: Reply) -> float:
    return float(is_right(reply.text, _row(reference.text)))


def _has(text: str, wanted: str) -> bool:
    """Whole words, in any case; in Chinese the characters."""
    if wanted.isascii():
        return re.search(rf"(?<![A-Za-z0-9]){re.escape(wanted)}(?![A-Za-z0-9])", text, re.IGNORECASE) is not None
    return wanted in text


def _is_json(answer: str, wanted: JsonValue) -> bool:
    text = re.sub(r"^```(?:json)?|```$", "", answer.strip()).strip()
    try:
        return bool(orjson.loads(text) == wanted)
    except orjson.JSONDecodeError:
        return False


@cache
def _rows() -> tuple[JsonObject, ...]:
    return tuple(orjson.loads(line) for line in SET.read_bytes().splitlines())


def _row(text: str) -> JsonObject:
    row: JsonObject = orjson.loads(text)
    return row


def _list(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []
