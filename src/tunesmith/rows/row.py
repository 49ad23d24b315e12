"""One training row as a value: chat, completion, preference, reinforcement.

`parse_row` refuses what the check calls an error and drops nothing: text parts are joined, `functions` become tools,
the older `_completion` spelling of preference rows is read like the newer one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from tunesmith.errors import DataError
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.rows.codes import CODES
from tunesmith.rows.findings import Fault, at_line
from tunesmith.rows.messages import FunctionCall, Message, Tool, ToolCall
from tunesmith.rows.parse import BrokenLine
from tunesmith.rows.raw_row import iter_rows
from tunesmith.rows.row_faults import CHAT_KEYS, Kind, kind_of, row_faults


@dataclass(frozen=True, slots=True)
class ChatRow:
    """A conversation, whose assistant messages are learned."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    parallel_tool_calls: bool = True


@dataclass(frozen=True, slots=True)
class CompletionRow:
    """A text that follows another; only the completion is learned."""

    prompt: str
    completion: str


@dataclass(frozen=True, slots=True)
class PreferenceRow:
    """Two answers to one conversation.

    `prompt` is the conversation so far; each output is one assistant message that answers it.
    """

    prompt: tuple[Message, ...]
    preferred: tuple[Message, ...]
    non_preferred: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    parallel_tool_calls: bool = True


@dataclass(frozen=True, slots=True)
class ReinforcementRow:
    """A prompt to be graded; `item` has the other keys, which graders read."""

    prompt: tuple[Message, ...]
    item: JsonObject
    tools: tuple[Tool, ...] = ()
    parallel_tool_calls: bool = True


Row: TypeAlias = ChatRow | CompletionRow | PreferenceRow | ReinforcementRow


class RowError(DataError):
    """A row or message list that cannot be used.

    `faults` are its errors; the first one is the message.
    """

    def __init__(self, faults: list[Fault], line: int | None = None) -> None:
        first = faults[0]
        text = str(at_line(first, line)) if line is not None else f"{first.message} {CODES[first.code].fix}"
        super().__init__(text, param=first.path or None, code=first.code)
        self.faults = faults


def parse_row(value: JsonValue, line: int | None = None) -> Row:
    """The row as a value; RowError if it has any fault that is an error."""
    errors = _errors(row_faults(value))
    if errors:
        raise RowError(errors, line)
    return build_row(value)


def parse_tools(row: JsonObject) -> tuple[Tool, ...]:
    """The tools of a row or chat request: `tools`, and the older `functions`."""
    tools, functions = row.get("tools"), row.get("functions")
    found = [tool["function"] for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    found += functions if isinstance(functions, list) else []
    return tuple(_tool(function) for function in found if isinstance(function, dict))


def read_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """(line number from 1, row) of each line that is not blank.

    Raises RowError at the first line that is not a row without errors.
    """
    for raw in iter_rows(path):
        try:
            value = raw.value()
        except BrokenLine as broken:
            raise RowError([broken.fault], raw.line) from None
        yield raw.line, parse_row(value, raw.line)


def first_kind(path: Path) -> Kind | None:
    """The kind of the first row of a file that is JSON, None if no row is."""
    for raw in iter_rows(path):
        try:
            return kind_of(raw.value())
        except BrokenLine:
            continue
    return None


def build_row(value: JsonValue) -> Row:
    """The value of a row without faults; `parse_row` is the safe way in."""
    if not isinstance(value, dict):
        raise RowError([Fault("not_an_object", "", "The row is not an object.")])
    kind = kind_of(value)
    if kind == "completion":
        return CompletionRow(str(value["prompt"]), str(value["completion"]))
    if kind == "preference":
        return _preference_row(value)
    messages, tools, parallel = messages_of(value["messages"]), parse_tools(value), _parallel(value)
    if kind == "reinforcement":
        return ReinforcementRow(messages, {key: value[key] for key in value if key not in CHAT_KEYS}, tools, parallel)
    return ChatRow(messages, tools, parallel)


def _preference_row(value: JsonObject) -> PreferenceRow:
    prompt = value["input"]
    assert isinstance(prompt, dict)  # noqa: S101  (row_faults has said so)
    preferred = value.get("preferred_output", value.get("preferred_completion"))
    other = value.get("non_preferred_output", value.get("non_preferred_completion"))
    return PreferenceRow(
        messages_of(prompt["messages"]),
        messages_of(preferred),
        messages_of(other),
        parse_tools(prompt),
        _parallel(prompt),
    )


def _parallel(row: JsonObject) -> bool:
    return row.get("parallel_tool_calls") is not False


def _errors(faults: Iterator[Fault]) -> list[Fault]:
    return [fault for fault in faults if CODES[fault.code].severity == "error"]


def messages_of(value: JsonValue) -> tuple[Message, ...]:
    """The messages of a list in which no fault was found."""
    return tuple(_message(message) for message in value if isinstance(message, dict)) if isinstance(value, list) else ()


def _message(value: JsonObject) -> Message:
    weight, calls = value.get("weight"), value.get("tool_calls")
    return Message(
        role=str(value["role"]),
        content=content_text(value.get("content")),
        name=_text(value.get("name")),
        weight=int(weight) if isinstance(weight, int | float) else None,
        tool_calls=tuple(_tool_call(call) for call in calls if isinstance(call, dict))
        if isinstance(calls, list)
        else (),
        tool_call_id=_text(value.get("tool_call_id")),
        function_call=_function_call(value.get("function_call")),
        refusal=_text(value.get("refusal")),
        reasoning_content=_text(value.get("reasoning_content")),
    )


def content_text(content: JsonValue) -> str | None:
    """Content as one text: parts are joined without a separator, as chat templates do."""
    if not isinstance(content, list):
        return _text(content)
    parts = [part for part in content if isinstance(part, dict)]
    return "".join(str(part["refusal" if part.get("type") == "refusal" else "text"]) for part in parts)


def _tool_call(value: JsonObject) -> ToolCall:
    function = _function_call(value.get("function")) or FunctionCall("", "")
    return ToolCall(str(value.get("id", "")), function.name, function.arguments)


def _function_call(value: JsonValue) -> FunctionCall | None:
    if not isinstance(value, dict):
        return None
    return FunctionCall(str(value["name"]), str(value["arguments"]))


def _tool(function: JsonObject) -> Tool:
    parameters, strict = function.get("parameters"), function.get("strict")
    return Tool(
        name=str(function["name"]),
        description=_text(function.get("description")),
        parameters=parameters if isinstance(parameters, dict) else None,
        strict=strict if isinstance(strict, bool) else None,
    )


def _text(value: JsonValue) -> str | None:
    return value if isinstance(value, str) else None
