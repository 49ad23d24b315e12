"""The parts of a row that several shapes share."""

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.rows.other_shapes.result import UnclearShapeError
from tunesmith.rows.other_shapes.tools import tools_of
from tunesmith.rows.other_shapes.turns import are_turns, is_turn, messages_of, text_of

SYSTEM_KEYS = ("system", "system_prompt", "system_message", "systemInstruction", "system_instruction", "preamble")


def plain_text(value: JsonValue) -> str | None:
    """A text, or a number as text; None for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else None


def prompt_messages(value: JsonValue) -> list[JsonValue] | None:
    """The messages of a prompt.

    It is a text of the user, a list of turns, or an object that holds one.
    """
    if (text := plain_text(value)) is not None:
        return [{"role": "user", "content": text}]
    if isinstance(value, dict) and are_turns(value.get("messages")):
        return messages_of(value["messages"])[0]
    return messages_of(value)[0] if are_turns(value) else None


def answer_messages(value: JsonValue) -> list[JsonValue] | None:
    """The messages of an answer.

    It is a text of the assistant, one message, a list of them, or a service's response.
    """
    if (text := plain_text(value)) is not None:
        return [{"role": "assistant", "content": text}]
    if is_turn(value):
        return messages_of([value])[0]
    if are_turns(value):
        return messages_of(value)[0]
    return response_message(value) if isinstance(value, dict) else None


def response_message(response: JsonObject) -> list[JsonValue] | None:
    """The answer in a service's response, also in the `body` around it."""
    inner = response.get("body", response)
    choices = inner.get("choices") if isinstance(inner, dict) else None
    if not isinstance(choices, list):
        return None
    if len(choices) != 1:
        raise UnclearShapeError(f"The response has {len(choices)} choices: keep the one that is to be learned.")
    choice = choices[0]
    if not isinstance(choice, dict):
        return None
    if isinstance(message := choice.get("message"), dict):
        kept = ("role", "content", "tool_calls", "function_call", "refusal")
        return [{key: message[key] for key in kept if message.get(key) is not None or key in ("role", "content")}]
    text = choice.get("text")
    return [{"role": "assistant", "content": text}] if isinstance(text, str) else None


def system_key(row: JsonObject) -> str | None:
    """The key of a row's system message, if it has one beside the messages."""
    return next((key for key in SYSTEM_KEYS if row.get(key) not in (None, "", [])), None)


def with_system(row: JsonObject, messages: list[JsonValue]) -> list[JsonValue]:
    """The messages after the row's system message."""
    key = system_key(row)
    if key is None:
        return messages
    text = text_of(row[key])
    if text is None:
        raise UnclearShapeError(f"'{key}' is not text.")
    first = messages[0] if messages else None
    if isinstance(first, dict) and first.get("role") in ("system", "developer"):
        if first.get("content") == text:
            return messages
        raise UnclearShapeError(f"'{key}' and the first message are two different system messages: keep one.")
    return [{"role": "system", "content": text}, *messages]


def with_tools(row: JsonObject, made: JsonObject) -> JsonObject:
    """`made` with the tools of `row`."""
    if "tools" in row and (tools := tools_of(row["tools"])):
        made["tools"] = tools
    for key in ("functions", "parallel_tool_calls"):
        if row.get(key) is not None:
            made[key] = row[key]
    return made


def used(row: JsonObject, *keys: str | None) -> frozenset[str]:
    """`keys`, and those that `with_system` and `with_tools` read."""
    empty = {key for key in SYSTEM_KEYS if row.get(key) in (None, "", [])}
    both = {*keys, system_key(row), *empty, "tools", "functions", "parallel_tool_calls"}
    return frozenset(key for key in both if key is not None)
