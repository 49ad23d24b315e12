"""The fields of a grader's JSON, each checked and named when it is wrong."""

import math
from collections.abc import Sequence

from tunesmith.errors import InvalidRequest
from tunesmith.graders.templates import check_template
from tunesmith.jsonvalue import JsonObject, JsonValue

ROLES = ("user", "assistant", "system", "developer")
TEXT_PARTS = ("input_text", "output_text", "text")
SAMPLING = {  # OpenAI's name -> the chat request's
    "seed": "seed",
    "top_p": "top_p",
    "temperature": "temperature",
    "max_completions_tokens": "max_completion_tokens",
    "max_completion_tokens": "max_completion_tokens",
}


def known_only(value: JsonObject, known: Sequence[str], param: str) -> None:
    for key in value:
        if key not in known:
            raise InvalidRequest(
                f"Unknown parameter: '{param}.{key}'.", param=f"{param}.{key}", code="unknown_parameter"
            )


def text(value: JsonObject, key: str, param: str, *, template: bool = False) -> str:
    """A required text; with `template`, one whose places can be filled in."""
    place = f"{param}.{key}"
    found = value.get(key)
    if found is None:
        raise InvalidRequest(f"Missing required parameter: '{place}'.", param=place, code="missing_required_parameter")
    if not isinstance(found, str):
        raise InvalidRequest(f"{found!r} is not a text. - '{place}'", param=place, code="invalid_type")
    if template:
        check_template(found, place)
    elif not found:
        raise InvalidRequest(f"An empty text says nothing here. - '{place}'", param=place, code="empty_string")
    return found


def choice(value: JsonObject, key: str, choices: Sequence[str], param: str) -> str:
    found = text(value, key, param)
    if found not in choices:
        place = f"{param}.{key}"
        raise InvalidRequest(
            f"{found!r} is not one of {', '.join(choices)}. - '{place}'", param=place, code="invalid_value"
        )
    return found


def number_range(value: JsonObject, param: str) -> tuple[float, float]:
    """Lowest and highest score; 0 and 1 unless told."""
    match value.get("range"):
        case None:
            return 0.0, 1.0
        case [int() | float() as low, int() | float() as high] if _finite(low) and _finite(high) and low < high:
            return float(low), float(high)
    place = f"{param}.range"
    raise InvalidRequest(f"A range is two numbers, the lower one first, such as [0, 10]. - '{place}'", param=place)


def _finite(number: float) -> bool:
    return not isinstance(number, bool) and math.isfinite(number)


def sampling(value: JsonValue, param: str) -> JsonObject:
    """Under the names of a chat request, which checks the values."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest(f"Sampling parameters are an object. - '{param}'", param=param)
    if value.get("reasoning_effort") is not None:
        place = f"{param}.reasoning_effort"
        raise InvalidRequest("Models here do not reason before they answer; leave it out.", param=place)
    known_only(value, (*SAMPLING, "reasoning_effort"), param)
    return {SAMPLING[key]: found for key, found in value.items() if key in SAMPLING and found is not None}


def messages(value: JsonValue, param: str) -> tuple[tuple[str, str], ...]:
    """((role, text), ...) of the messages that a grading model reads; images and audio are refused."""
    if not isinstance(value, list) or not value:
        raise InvalidRequest(f"A grading model needs a list of at least one message. - '{param}'", param=param)
    return tuple(_message(one, f"{param}[{index}]") for index, one in enumerate(value))


def _message(value: JsonValue, param: str) -> tuple[str, str]:
    if not isinstance(value, dict):
        raise InvalidRequest(f"A message is an object with 'role' and 'content'. - '{param}'", param=param)
    known_only(value, ("role", "content", "type"), param)
    content = value.get("content")
    parts = content if isinstance(content, list) else [content]
    place = f"{param}.content"
    return choice(value, "role", ROLES, param), "\n".join(_part(part, place) for part in parts)


def _part(value: JsonValue, param: str) -> str:
    match value:
        case str():
            found = value
        case {"type": str() as kind, "text": str() as found} if kind in TEXT_PARTS:
            pass
        case _:
            raise InvalidRequest(
                f'The content of a message is a text or {{"type": "input_text", "text": "..."}}; images and audio are'
                f" not read here. - '{param}'",
                param=param,
            )
    check_template(found, param)
    return found
