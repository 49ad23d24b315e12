"""How a template wants to be given tools, calls and results, found out by trying.

Templates differ: some want a call's arguments as an object and others as text, Mistral's want ids of nine letters, some
need the name of the function beside its result, and some write nothing of what they are given.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from tunesmith.errors import DataError
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.render.faults import EndlessTemplate

NAME, VALUE, RESULT, BESIDE = "probe_tool", "Paris9", "Sunny7", "Beside5"
Write = Callable[[list[JsonObject], list[JsonObject] | None], str]

TOOL: JsonObject = {
    "type": "function",
    "function": {
        "name": NAME,
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
USER: JsonObject = {"role": "user", "content": "Weather?"}
PLAIN: JsonObject = {"role": "assistant", "content": "Wait."}


@dataclass(frozen=True, slots=True)
class Habits:
    """What a template does with tools.

    `declares`: it writes the declarations. `calls`, `results`: it writes an assistant's calls, and their results.
    `text_arguments`: it takes the arguments of a call as text. `short_ids`: its ids have nine letters or digits.
    `named_results`: it needs a result's function by name. `null_content`: it writes calls only beside no content.
    `drops_text`: it leaves out the text beside calls.
    """

    declares: bool = False
    calls: bool = False
    results: bool = False
    text_arguments: bool = False
    short_ids: bool = False
    named_results: bool = False
    null_content: bool = False
    drops_text: bool = False

    @property
    def any(self) -> bool:
        """Whether the template knows of tools at all."""
        return self.declares or self.calls


def find_habits(write: Write) -> Habits:
    """The habits of the template behind `write`.

    That raises DataError where the template refuses.
    """
    found = Habits(declares=NAME in _try(write, [USER], [TOOL]))
    for trial in (
        found,
        replace(found, short_ids=True),
        replace(found, text_arguments=True),
        replace(found, text_arguments=True, short_ids=True),
        replace(found, null_content=True),
        replace(found, null_content=True, text_arguments=True),
    ):
        text = _try(write, [USER, probe_call(trial)], [TOOL])
        if NAME in text and VALUE in text:
            beside = _try(write, [USER, {**probe_call(trial), "content": BESIDE}], [TOOL])
            found = replace(trial, calls=True, drops_text=NAME in beside and BESIDE not in beside)
            break
    for named in (False, True):
        trial = replace(found, named_results=named)
        text = _try(write, [USER, probe_call(trial), probe_result(trial)], [TOOL])
        if RESULT in text and (named or "None" not in text):
            return replace(trial, results=True)
    return found


def probe_call(habits: Habits) -> JsonObject:
    """An assistant's message with one call."""
    arguments: JsonValue = f'{{"city": "{VALUE}"}}' if habits.text_arguments else {"city": VALUE}
    call: JsonObject = {
        "id": _id(habits),
        "type": "function",
        "function": {"name": NAME, "arguments": arguments},
    }
    return {"role": "assistant", "content": None if habits.null_content else "", "tool_calls": [call]}


def probe_result(habits: Habits) -> JsonObject:
    """The result of that call."""
    result: JsonObject = {"role": "tool", "tool_call_id": _id(habits), "content": RESULT}
    return {**result, "name": NAME} if habits.named_results else result


def _id(habits: Habits) -> str:
    return "call00001" if habits.short_ids else "call_0000000000000001"


def _try(write: Write, messages: list[JsonObject], tools: list[JsonObject] | None) -> str:
    try:
        return write(messages, tools)
    except EndlessTemplate:
        raise
    except DataError:
        return ""
