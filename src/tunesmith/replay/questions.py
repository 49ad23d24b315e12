"""What to ask the teacher for each row of a file.

A chat row is asked without the answer it ends with; `{"prompt": TEXT}` is asked as a user's message.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.rows.findings import Finding, at_line, finding
from tunesmith.rows.message_faults import messages_faults
from tunesmith.rows.parse import BrokenLine
from tunesmith.rows.raw_row import RawRow, iter_rows
from tunesmith.rows.row_faults import NOTES
from tunesmith.tokens import PER_EXAMPLE, PER_MESSAGE, PER_ROLE, count_tokens

TOOL_KEYS = ("tools", "functions", "parallel_tool_calls")
METADATA = NOTES
ASKED_KEYS = frozenset(("messages", "prompt", METADATA, *TOOL_KEYS))


@dataclass(frozen=True, slots=True)
class Question:
    """A row as the teacher is asked.

    `key` names it in the journal: equal rows differ by how often they occurred before. `dropped` are keys of the row
    that have no place in a training row.
    """

    line: int
    key: str
    messages: list[JsonValue]
    tools: JsonObject
    metadata: JsonObject
    dropped: tuple[str, ...]

    def tokens(self, encoding: str) -> int:
        """About how many tokens the prompt has in one of OpenAI's encodings."""
        asked = orjson.dumps([self.messages, list(self.tools.values())]).decode()
        extra = PER_EXAMPLE + (PER_MESSAGE + PER_ROLE) * len(self.messages)
        return count_tokens([asked], encoding, threads=1)[0] + extra


def read_questions(path: Path) -> Iterator[Question | Finding]:
    """The question of each row in order, or what stops the row from being asked."""
    seen: Counter[str] = Counter()
    for raw in iter_rows(path):
        asked = _question(raw)
        if isinstance(asked, Question):
            seen[asked.key] += 1
            yield asked if seen[asked.key] == 1 else _again(asked, seen[asked.key])
        else:
            yield asked


def _question(raw: RawRow) -> Question | Finding:
    try:
        row = raw.value()
    except BrokenLine as broken:
        return at_line(broken.fault, raw.line)
    if not isinstance(row, dict):
        return finding("not_an_object", raw.line, "The row is not an object.")
    messages = _messages(row)
    if isinstance(messages, str):
        return finding("missing_messages", raw.line, messages)
    for fault in messages_faults(messages, "messages", training=False):
        return at_line(fault, raw.line)
    tools = {key: row[key] for key in TOOL_KEYS if row.get(key) is not None}
    digest = hashlib.sha256(orjson.dumps([messages, tools], option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]
    metadata = row.get(METADATA)
    dropped = tuple(key for key in row if key not in ASKED_KEYS)
    return Question(raw.line, digest, messages, tools, metadata if isinstance(metadata, dict) else {}, dropped)


def _messages(row: JsonObject) -> list[JsonValue] | str:
    """The messages to ask with, or a sentence that says why there are none."""
    if "messages" in row:
        return _without_answer(row["messages"])
    if isinstance(row.get("prompt"), str) and "completion" not in row:
        return [{"role": "user", "content": row["prompt"]}]
    if "completion" in row:
        return "This is a prompt/completion row, and a chat model is asked for answers to messages."
    if "input" in row:
        return "This is a preference row; it has two answers already."
    return "The row has neither 'messages' nor a 'prompt'."


def _without_answer(messages: JsonValue) -> list[JsonValue] | str:
    if not isinstance(messages, list):
        return "'messages' is not a list."
    asked = list(messages)
    while asked and isinstance(asked[-1], dict) and asked[-1].get("role") == "assistant":
        asked.pop()
    if not asked:
        return "The row has only assistant messages; there is nothing to answer."
    # `weight` is for training; a chat request with it is refused.
    return [{k: v for k, v in one.items() if k != "weight"} if isinstance(one, dict) else one for one in asked]


def _again(asked: Question, times: int) -> Question:
    key = f"{asked.key}-{times}"
    return Question(asked.line, key, asked.messages, asked.tools, asked.metadata, asked.dropped)
