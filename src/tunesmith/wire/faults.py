"""What is wrong with a request, in OpenAI's words.

Every 400 about the form of a request is written here; what only a store, a base or a file can tell is said there.

OpenAI's API has two ways to put it, and clients read both. Its fine-tuning, file and organization routes write the
value first and the field last ("0 is less than the minimum of 1 - 'seed'"); its chat routes name the field first and
have a code for each kind ("Invalid type for 'n': expected an integer, but got a string instead.", `invalid_type`).
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from pydantic import ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonValue

Wording: TypeAlias = Callable[[str, ErrorDetails], InvalidRequest]
Hint: TypeAlias = Callable[[str], str]
WORDED = "worded"  # the type of a pydantic error whose context makes the answer itself
KINDS = {  # pydantic's error types -> what was expected
    "string_type": "a string",
    "string_unicode": "valid text: it contains half a surrogate pair",
    "bool_type": "a boolean",
    "int_type": "an integer",
    "int_parsing": "a whole number",
    "float_type": "a decimal",
    "list_type": "an array",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}
FINE_TUNING_KINDS = {**KINDS, "list_type": "a list"}


def worded(say: Callable[[str], InvalidRequest]) -> PydanticCustomError:
    """The error that a validator raises to word the 400 itself.

    `say` gets the field's path, 'messages[2].role'.
    """
    return PydanticCustomError(WORDED, "said elsewhere", {"say": say})


def explain(fault: ErrorDetails, wording: Wording, at: str = "", hint: Hint | None = None) -> InvalidRequest:
    """One pydantic error as an InvalidRequest.

    `at`: the path of the body; `hint`: more about an unknown parameter.
    """
    param, context = param_of(fault["loc"], at), fault.get("ctx", {})
    if fault["type"] == WORDED:
        answer: InvalidRequest = context["say"](param)
        return answer
    nested = context.get("error")
    if isinstance(nested, ValidationError):  # of a model that a validator has chosen
        return explain(nested.errors(include_url=False)[0], wording, param, hint)
    if fault["type"] == "missing":
        return missing(param)
    if fault["type"] == "extra_forbidden":
        return unknown_parameter(param, "" if hint is None else hint(param))
    if fault["type"] == "value_error":  # of our own validators: the message is already a sentence
        return InvalidRequest(f"{nested} - '{param}'", param=param)
    return wording(param, fault)


def param_of(location: Sequence[int | str], at: str = "") -> str:
    """A location as a path: ('messages', 2, 'role') -> 'messages[2].role'.

    `at`: the path of what the location is in.
    """
    name = at
    for part in location:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else part
    return name


def missing(param: str) -> InvalidRequest:
    """A required parameter that is not there."""
    return InvalidRequest(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")


def unknown_parameter(param: str, hint: str = "") -> InvalidRequest:
    """A parameter that the request does not have; `hint` follows the sentence."""
    return InvalidRequest(f"Unknown parameter: '{param}'.{hint}", param=param, code="unknown_parameter")


def unsupported(param: str, reason: str) -> InvalidRequest:
    """A parameter of OpenAI's that this server cannot follow."""
    message = f"Unsupported parameter: '{param}' is not supported by this server: {reason}"
    return InvalidRequest(message, param=param, code="unsupported_parameter")


def invalid_value(param: str, message: str) -> InvalidRequest:
    """A value that is not possible; the message is the caller's."""
    return InvalidRequest(message, param=param, code="invalid_value")


def wrong_type(param: str, expected: str, value: object) -> InvalidRequest:
    """A value of another JSON type than `expected`, 'an integer'."""
    message = f"Invalid type for '{param}': expected {expected}, but got {kind_of(value)} instead."
    return InvalidRequest(message, param=param, code="invalid_type")


def chat_wording(param: str, fault: ErrorDetails) -> InvalidRequest:
    """The wording of OpenAI's chat, completion and grader routes.

    The field comes first, and each kind of error has a code.
    """
    kind, value, limits = fault["type"], fault.get("input"), fault.get("ctx", {})
    if kind in KINDS:
        return wrong_type(param, KINDS[kind], value)
    if kind == "literal_error" and not isinstance(value, str):
        return wrong_type(param, "a string", value)
    if kind == "literal_error":
        supported = limits["expected"].replace(" or ", " and ")
        return invalid_value(param, f"Invalid value: {shown(value)}. Supported values are: {supported}.")
    if kind in ("too_long", "too_short"):
        return _wrong_length(param, kind, limits)
    if kind in ("greater_than_equal", "less_than_equal"):
        return _out_of_range(param, kind, value, limits)
    return invalid_value(param, f"Invalid '{param}': {_lowered(fault['msg'])}.")


def fine_tuning_wording(param: str, fault: ErrorDetails) -> InvalidRequest:
    """The wording of OpenAI's fine-tuning, file and organization routes.

    The value comes first, the field last.
    """
    return InvalidRequest(f"{shown(fault.get('input'))} {_verdict(fault)} - '{param}'", param=param)


def shown(value: object, limit: int = 60) -> str:
    """A value as a user wrote it, cut to a length that fits a line."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}…"


def kind_of(value: object) -> str:
    """The JSON type of `value` with its article: 'an array'."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a decimal"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"


def demand_object(value: JsonValue) -> dict[str, JsonValue]:
    """The value itself. Raises InvalidRequest for anything but a JSON object."""
    if not isinstance(value, dict):
        raise InvalidRequest(f"The request body must be a JSON object, but it is {kind_of(value)}.")
    return value


def _wrong_length(param: str, kind: str, limits: dict[str, int]) -> InvalidRequest:
    word, side, limit = (
        ("long", "maximum", limits["max_length"]) if kind == "too_long" else ("short", "minimum", limits["min_length"])
    )
    message = (
        f"Invalid '{param}': array too {word}. Expected an array with {side} length {limit}, but got an array with"
        f" length {limits['actual_length']} instead."
    )
    code = "array_above_max_length" if kind == "too_long" else "array_below_min_length"
    return InvalidRequest(message, param=param, code=code)


def _out_of_range(param: str, kind: str, value: object, limits: dict[str, float]) -> InvalidRequest:
    low = kind == "greater_than_equal"
    limit = limits["ge" if low else "le"]
    number = "decimal" if isinstance(limit, float) else "integer"
    bound, sign = ("below minimum", ">=") if low else ("above maximum", "<=")
    expected = f"{sign} {limit:g}" if isinstance(limit, float) else f"{sign} {limit}"
    message = f"Invalid '{param}': {number} {bound} value. Expected a value {expected}, but got {shown(value)} instead."
    return InvalidRequest(message, param=param, code=f"{number}_{'below_min' if low else 'above_max'}_value")


def _verdict(fault: ErrorDetails) -> str:
    """`is not a string`, `is less than the minimum of 0`: after the value, before the field's name."""
    kind, limits = fault["type"], fault.get("ctx", {})
    if kind in FINE_TUNING_KINDS and kind not in ("bool_type", "int_type", "float_type"):
        return f"is not {FINE_TUNING_KINDS[kind]}"
    if kind == "literal_error":
        return f"is not one of [{limits['expected'].replace(' or ', ', ')}]"
    if kind == "greater_than_equal":
        return f"is less than the minimum of {limits['ge']}"
    if kind == "less_than_equal":
        return f"is greater than the maximum of {limits['le']}"
    if kind == "int_parsing_size":  # pydantic reads no more than 4300
        return "has more digits than any number that is possible here"
    if kind == "bool_parsing":
        return "is neither true nor false"
    if kind == "too_long" and isinstance(fault.get("input"), str):  # pydantic takes a checked string for a list
        return f"is not valid: string should have at most {limits['max_length']} characters"
    return f"is not valid: {_lowered(fault['msg'])}"


def _lowered(message: str) -> str:
    return f"{message[:1].lower()}{message[1:]}"
