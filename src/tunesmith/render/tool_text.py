"""Tools as plain text inside messages, for bases whose template has no tools.

Declarations, calls and results.

One convention for every base, so that a row and a served chat read the same:

* declarations end the system message: one JSON object a line between <tools> and </tools>;
* a call is `<tool_call>` + {"name": …, "arguments": …} + `</tool_call>` in the assistant's content, after any text;
* a result is `<tool_response>` … `</tool_response>` in a user turn.

These are text, never special tokens: nobody can forge a turn with them. Only we write a result's tags: those in what
a user or a tool says are changed (`without_result_tags`). The tags are those of the Hermes function
calling format, which many open-weight models have met in their own training.

`render.tool_call_reader` reads it back. A template that knows tools writes them itself (`render.native`).
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from tunesmith.jsonvalue import JsonObject
from tunesmith.rows.messages import FunctionCall, Message, Tool, ToolCall

CALL_START = "<tool_call>"
CALL_TAG_END = "</tool_call>"
CALL_END = f"}}\n{CALL_TAG_END}"  # after the arguments
BETWEEN_CALLS = "\n"
RESULT_START, RESULT_END = "<tool_response>", "</tool_response>"
_RESULT_TAG = re.compile(r"<(?=[\s/]*tool_response\b)", re.IGNORECASE)
_JSON_STARTS = "{["


@dataclass(frozen=True, slots=True)
class CallWords:
    """What stands around the names and arguments of calls.

    `mark` and `lead` come before the first name, `middle` between a name and its arguments, `between` up to the next
    name (None where an answer has one call), `end` after the last arguments. `before` comes before the mark where there
    is no text, `opening` before the text of an answer without calls.
    """

    mark: str
    lead: str
    middle: str
    between: str | None
    end: str
    before: str = ""
    opening: str = ""


OUR_WORDS = CallWords(
    CALL_START,
    '\n{"name": "',
    '", "arguments": ',
    f'{CALL_END}{BETWEEN_CALLS}{CALL_START}\n{{"name": "',
    CALL_END,
)


def call_opening(name: str) -> str:
    """What comes between `CALL_START` and the arguments."""
    return f'\n{{"name": {json.dumps(name, ensure_ascii=False)}, "arguments": '


def declare(tools: Iterable[Tool]) -> str:
    """The part of the system message that declares `tools`."""
    lines = "\n".join(json.dumps(_declaration(tool), ensure_ascii=False) for tool in tools)
    return (
        "You can call these functions:\n<tools>\n"
        f"{lines}\n</tools>\n"
        'To call one, answer with <tool_call>\n{"name": NAME, "arguments": OBJECT}\n</tool_call>'
    )


def assistant_text(message: Message) -> str:
    """The text of an assistant turn, as it is learned.

    That is its content or refusal, then its calls.
    """
    text = message.content if message.content is not None else message.refusal
    calls = calls_text(message)
    return BETWEEN_CALLS.join([part for part in (text, calls) if part])


def calls_text(message: Message) -> str:
    """The calls of an assistant turn, as they are learned; "" if it has none."""
    calls: list[ToolCall | FunctionCall] = [*message.tool_calls]
    if message.function_call is not None:
        calls.append(message.function_call)
    return BETWEEN_CALLS.join([_call(call) for call in calls])


def result_text(message: Message) -> str:
    """A tool's (or function's) answer, as the text of a user turn."""
    return f"{RESULT_START}\n{without_result_tags(message.content or '')}\n{RESULT_END}"


def without_result_tags(text: str) -> str:
    """What a user or a tool said, with the `<` of our tags of results written `&lt;`.

    So no tool can end its result and no user can write one. Any other text is as it was.
    """
    return _RESULT_TAG.sub("&lt;", text)


def _declaration(tool: Tool) -> JsonObject:
    declaration: JsonObject = {"name": tool.name}
    if tool.description is not None:
        declaration["description"] = tool.description
    declaration["parameters"] = tool.parameters if tool.parameters is not None else {}
    return declaration


def _call(call: ToolCall | FunctionCall) -> str:
    return f"{CALL_START}{call_opening(call.name)}{_as_written(call.arguments)}{CALL_END}"


def _as_written(arguments: str) -> str:
    """The arguments as the model wrote them, byte for byte: a call that was cut is cut in the prompt too.

    Nothing is {}. Text that begins like no JSON value was written as a JSON string.
    """
    text = arguments.strip()
    if not text:
        return "{}"
    return arguments if text[0] in _JSON_STARTS or _is_json(text) else json.dumps(arguments, ensure_ascii=False)


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_int=str)
    except (ValueError, RecursionError):
        return False
    return True
