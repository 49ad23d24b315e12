"""What is asked for a row, and what was answered, as an output item shows it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import orjson

from tunesmith.errors import InvalidRequest
from tunesmith.graders.templates import PATH, STEP, Variables, fill
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.wire.graders import TEXT_PARTS

SEED = 42  # OpenAI's
Texts = Sequence[tuple[str, str]]  # (role, text with placeholders)


@dataclass(frozen=True, slots=True)
class Asking:
    """What a run asks for each row: a template or a reference, a model, its sampling."""

    model: str
    template: Texts | None
    reference: str | None
    sampling: JsonObject = field(default_factory=dict)  # fields of a chat request
    max_tokens: int = 0

    def messages(self, item: JsonObject) -> list[JsonValue]:
        """The messages of a row. Raises NoValue or InvalidRequest where it has none."""
        if self.template is not None:
            variables = Variables("", item)
            return [
                {"role": role, "content": fill(text, variables, f"input_messages.template[{place}]")}
                for place, (role, text) in enumerate(self.template)
            ]
        return referred(item, self.reference or "")

    def sample(self, messages: Sequence[JsonValue]) -> JsonObject:
        """An output item's sample, before there is an answer."""
        return {
            "input": [_shown(message) for message in messages],
            "output": [],
            "finish_reason": "",
            "model": self.model,
            "usage": {"total_tokens": 0, "completion_tokens": 0, "prompt_tokens": 0, "cached_tokens": 0},
            "error": None,
            "temperature": _number(self.sampling, "temperature", 1.0),
            "max_completion_tokens": self.max_tokens,
            "top_p": _number(self.sampling, "top_p", 1.0),
            "seed": cast(int, self.sampling.get("seed", SEED)),
        }


def given_sample(given: JsonObject, asking: Asking) -> JsonObject:
    """The sample that a row brought along, in an output item's shape."""
    text, calls = read_given(given)
    return asking.sample([]) | {
        "output": [output_message(text, calls)],
        "finish_reason": str(given.get("finish_reason") or ("tool_calls" if calls else "stop")),
        "model": str(given.get("model") or asking.model),
    }


def output_message(text: str, calls: Sequence[JsonValue]) -> JsonObject:
    """An answer among a sample's `output`."""
    message: JsonObject = {"role": "assistant", "content": text}
    return {**message, "tool_calls": list(calls)} if calls else message


def variables(sample: JsonObject | None, item: JsonObject) -> Variables:
    """What criteria may refer to; a row without a sample has an empty answer."""
    output = sample.get("output") if sample else None
    message = output[0] if isinstance(output, list) and output else None
    if not isinstance(message, dict):
        return Variables("", item)
    calls = message.get("tool_calls")
    found = tuple(call for call in calls if isinstance(call, dict)) if isinstance(calls, list) else ()
    return Variables(str(message.get("content") or ""), item, found)


def read_given(given: JsonObject) -> tuple[str, list[JsonValue]]:
    """(text, tool calls) of a row's `sample`.

    Of its output_text, choices, output_json or output_tools.
    """
    choices = given.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    message = message if isinstance(message, dict) else {}
    text = given.get("output_text")
    if not isinstance(text, str):
        text = message.get("content")
    if not isinstance(text, str):
        value = given.get("output_json")
        text = "" if value is None else orjson.dumps(value).decode()
    calls = given.get("output_tools") or message.get("tool_calls")
    return text, list(calls) if isinstance(calls, list) else []


def referred(item: JsonObject, reference: str) -> list[JsonValue]:
    """The messages at `item.input`: a list of them, or a text, which is the user's.

    Raises InvalidRequest where there is neither.
    """
    param = "data_source.input_messages.item_reference"
    match = PATH.fullmatch(reference)
    if match is None or match[1] != "item":
        raise InvalidRequest(f"{reference[:60]!r} is not a place such as item.input. - '{param}'", param=param)
    value: JsonValue = item
    for name, index in STEP.findall(match[2]):
        value = _step(value, name or index)
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if not isinstance(value, list) or not value:
        raise InvalidRequest(f"{reference} of this row is neither a text nor a list of messages.", param=param)
    return [_as_chat(message) for message in value]


def _step(value: JsonValue, key: str) -> JsonValue:
    if isinstance(value, dict):
        return value.get(key)
    return value[int(key)] if isinstance(value, list) and key.isdecimal() and int(key) < len(value) else None


def _as_chat(message: JsonValue) -> JsonValue:
    """A message of the Responses API has its texts in parts of other names, and a type."""
    if not isinstance(message, dict):
        return message
    kept = {name: value for name, value in message.items() if not (name == "type" and value == "message")}
    content = kept.get("content")
    if isinstance(content, list):
        kept["content"] = [_part(part) for part in content]
    return kept


def _part(part: JsonValue) -> JsonValue:
    if isinstance(part, dict) and part.get("type") in TEXT_PARTS:
        return {"type": "text", "text": part.get("text")}
    return part


def _shown(message: JsonValue) -> JsonObject:
    value = message if isinstance(message, dict) else {}
    content = value.get("content")
    if isinstance(content, list):
        content = "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return {"role": str(value.get("role", "")), "content": content if isinstance(content, str) else ""}


def _number(sampling: JsonObject, name: str, default: float) -> float:
    value = sampling.get(name)
    return float(value) if isinstance(value, int | float) else default
