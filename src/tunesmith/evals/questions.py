"""The answers of a chat file that a model can be asked for.

Each learned assistant message is one question: what stands before it is the prompt, the message itself the reference.

Not covered: prompt/completion and reinforcement rows; of preference rows the preferred answer is the reference.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tunesmith.errors import InvalidRequest
from tunesmith.evals.criteria import Reply, read_reply
from tunesmith.evals.statistics import SEED
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.rows.parse import BrokenLine
from tunesmith.rows.raw_row import iter_rows
from tunesmith.rows.row import RowError, parse_row
from tunesmith.rows.row_faults import kind_of

ASKED_KEYS = ("tools", "functions", "parallel_tool_calls")


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt and the answer that the file has for it.

    `line` counts from 1 and names the conversation.
    """

    line: int
    messages: tuple[JsonObject, ...]
    options: JsonObject  # tools, as the row has them
    reference: Reply
    answer: JsonObject = field(default_factory=dict)  # the reference as the file has it


def read_questions(path: Path) -> list[Question]:
    """All questions of a file, in order.

    Raises InvalidRequest where it has none, or a row is faulty.
    """
    found: list[Question] = []
    for raw in iter_rows(path):
        try:
            row = raw.value()
            parse_row(row, raw.line)
        except BrokenLine as broken:
            raise InvalidRequest(f"Line {raw.line}: {broken.fault.message} Run: tunesmith check FILE") from None
        except RowError as error:
            raise InvalidRequest(f"{error.message} Run: tunesmith check FILE") from None
        if isinstance(row, dict):
            found += _of_row(row, raw.line)
    if not found:
        raise InvalidRequest(
            'The file has no answers to compare with: it needs rows such as {"messages": [..., {"role": '
            '"assistant", "content": "..."}]}.'
        )
    return found


def in_random_order(questions: list[Question]) -> list[Question]:
    """The questions, whole conversations in an order drawn by a fixed seed.

    Any first part is a fair sample.
    """
    order = {line: place for place, line in enumerate(_drawn(questions))}
    return sorted(questions, key=lambda one: order[one.line])


def _drawn(questions: list[Question]) -> list[int]:
    lines = sorted({one.line for one in questions})
    random.Random(SEED).shuffle(lines)
    return lines


def sample(questions: list[Question], most: int) -> list[Question]:
    """About `most` questions at most, in the file's order.

    Whole conversations are drawn, by a fixed seed; the first one drawn is taken whatever its length.
    """
    if len(questions) <= most:
        return questions
    lines = _drawn(questions)
    taken: set[int] = set()
    sizes: dict[int, int] = {}
    for one in questions:
        sizes[one.line] = sizes.get(one.line, 0) + 1
    count = 0
    for line in lines:
        if count and count + sizes[line] > most:
            continue
        taken.add(line)
        count += sizes[line]
    return [one for one in questions if one.line in taken]


def _of_row(row: JsonObject, line: int) -> Iterator[Question]:
    kind = kind_of(row)
    if kind == "preference":
        row = _as_chat(row)
    elif kind != "chat":
        return
    messages = [one for one in _list(row.get("messages")) if isinstance(one, dict)]
    options = {key: row[key] for key in ASKED_KEYS if row.get(key) is not None}
    for index, message in enumerate(messages):
        if index and message.get("role") == "assistant" and message.get("weight") != 0:
            before = tuple({key: value for key, value in one.items() if key != "weight"} for one in messages[:index])
            answer = {key: value for key, value in message.items() if key != "weight"}
            yield Question(line, before, options, read_reply(message), answer)


def _as_chat(row: JsonObject) -> JsonObject:
    given = row.get("input")
    asked = given if isinstance(given, dict) else {}
    preferred = row.get("preferred_output") or row.get("preferred_completion")
    messages: list[JsonValue] = [
        {**one, "weight": 0} if isinstance(one, dict) and one.get("role") == "assistant" else one
        for one in _list(asked.get("messages"))
    ]
    return {**asked, "messages": [*messages, *_list(preferred)]}


def _list(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []
