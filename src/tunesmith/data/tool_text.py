"""Tools as plain text inside messages: declarations, calls and results, for bases whose template knows no tools.

One convention for every base, so that a row and a served chat read the same:

* declarations end the system message: one JSON object a line between <tools> and </tools>;
* a call is `<tool_call>` + {"name": …, "arguments": …} + `</tool_call>` in the assistant's content, after any text;
* a result is `<tool_response>` … `</tool_response>` in a user turn.

These are text, never special tokens: nobody can forge a turn with them. The tags are those of the Hermes function
calling format, which many open-weight models have met in their own training.

What is not covered: a base's own tool template (Llama 3.1's JSON form, for one) is not used.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from tunesmith.data.messages import FunctionCall, Message, Tool, ToolCall
from tunesmith.jsonvalue import JsonObject

CALL_START = "<tool_call>"  # a reply that streams holds back from here on
_CALL = re.compile(r"<tool_call>\n?(.*?)\n?</tool_call>", re.DOTALL)
_OURS = re.compile(r'\{"name": ("(?:[^"\\]|\\.)*"), "arguments": (.*)\}', re.DOTALL)


@dataclass(frozen=True, slots=True)
class CallText:
    """A call read back from text; the caller gives it an id."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ParsedReply:
    """What an assistant's text says: its content (None when it is calls alone) and its calls."""

    content: str | None
    calls: tuple[CallText, ...]


def declare(tools: Iterable[Tool]) -> str:
    """The part of the system message that declares `tools`."""
    lines = "\n".join(json.dumps(_declaration(tool), ensure_ascii=False) for tool in tools)
    return (
        "You can call these functions:\n<tools>\n"
        f"{lines}\n</tools>\n"
        'To call one, answer with <tool_call>\n{"name": NAME, "arguments": OBJECT}\n</tool_call>'
    )


def assistant_text(message: Message) -> str:
    """Everything the assistant says in this turn, as the text that is learned: content or refusal, then calls."""
    text = message.content if message.content is not None else message.refusal
    calls: list[ToolCall | FunctionCall] = [*message.tool_calls]
    if message.function_call is not None:
        calls.append(message.function_call)
    return "\n".join([*([text] if text else []), *(_call(call) for call in calls)])


def result_text(message: Message) -> str:
    """A tool's (or function's) answer, as the text of a user turn."""
    return f"<tool_response>\n{message.content or ''}\n</tool_response>"


def parse_reply(text: str) -> ParsedReply:
    """The reverse of `assistant_text`: arguments come back byte for byte; a call that is no JSON stays text."""
    calls: list[CallText] = []

    def take(match: re.Match[str]) -> str:
        call = _read_call(match[1])
        if call is None:
            return match[0]
        calls.append(call)
        return ""

    rest = _CALL.sub(take, text)
    if not calls:
        return ParsedReply(text, ())
    return ParsedReply(rest.strip("\n") or None, tuple(calls))


def _declaration(tool: Tool) -> JsonObject:
    declaration: JsonObject = {"name": tool.name}
    if tool.description is not None:
        declaration["description"] = tool.description
    declaration["parameters"] = tool.parameters if tool.parameters is not None else {}
    return declaration


def _call(call: ToolCall | FunctionCall) -> str:
    name = json.dumps(call.name, ensure_ascii=False)
    return f'<tool_call>\n{{"name": {name}, "arguments": {_as_json(call.arguments)}}}\n</tool_call>'


def _as_json(arguments: str) -> str:
    """The arguments themselves when they are JSON (kept byte for byte), else as a JSON string."""
    try:
        json.loads(arguments)
    except ValueError:
        return json.dumps(arguments, ensure_ascii=False)
    return arguments


def _read_call(body: str) -> CallText | None:
    ours = _OURS.fullmatch(body)
    try:
        if ours is not None:
            arguments = json.loads(ours[2])
            return CallText(str(json.loads(ours[1])), arguments if isinstance(arguments, str) else ours[2])
        value = json.loads(body)
    except ValueError:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    arguments = value.get("arguments", {})
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return CallText(value["name"], text)
