"""Reads the fields of a request body, each with its type and limits, and says what is wrong in OpenAI's words.

A field that is null counts as absent, as it does at OpenAI. `finish` refuses fields that nobody asked for.
"""

from collections.abc import Mapping

from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject, JsonValue


class Fields:
    def __init__(self, body: JsonValue) -> None:
        if not isinstance(body, dict):
            raise InvalidRequest(f"The request body must be a JSON object, but it is {kind_of(body)}.")
        self._values: JsonObject = body
        self._asked: set[str] = set()

    def raw(self, name: str) -> JsonValue:
        self._asked.add(name)
        return self._values.get(name)

    def text(self, name: str) -> str | None:
        value = self.raw(name)
        return None if value is None else as_text(value, name)

    def required_text(self, name: str) -> str:
        value = self.text(name)
        if value is None:
            raise missing(name)
        return value

    def boolean(self, name: str, default: bool = False) -> bool:
        value = self.raw(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise wrong_type(name, "a boolean", value)
        return value

    def integer(self, name: str, low: int | None = None, high: int | None = None) -> int | None:
        value = self.raw(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong_type(name, "an integer", value)
        _check_range(name, "integer", value, low, high)
        return value

    def number(self, name: str, low: float, high: float, default: float) -> float:
        value = self.raw(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise wrong_type(name, "a decimal", value)
        _check_range(name, "decimal", value, low, high)
        return float(value)

    def object(self, name: str) -> JsonObject | None:
        value = self.raw(name)
        return None if value is None else as_object(value, name)

    def array(self, name: str) -> list[JsonValue] | None:
        value = self.raw(name)
        return None if value is None else as_array(value, name)

    def ignore(self, *names: str) -> None:
        """Fields that change nothing here; docs/serving.md lists them."""
        self._asked.update(names)

    def refuse(self, reasons: Mapping[str, str]) -> None:
        """Fields that would change the answer if they were supported; null and [] are harmless."""
        for name, reason in reasons.items():
            if self.raw(name) not in (None, []):
                raise unsupported(name, reason)

    def finish(self) -> None:
        for name in self._values:
            if name not in self._asked:
                raise InvalidRequest(f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")


def as_text(value: JsonValue, path: str) -> str:
    if not isinstance(value, str):
        raise wrong_type(path, "a string", value)
    return value


def as_object(value: JsonValue, path: str) -> JsonObject:
    if not isinstance(value, dict):
        raise wrong_type(path, "an object", value)
    return value


def as_array(value: JsonValue, path: str) -> list[JsonValue]:
    if not isinstance(value, list):
        raise wrong_type(path, "an array", value)
    return value


def missing(path: str) -> InvalidRequest:
    return InvalidRequest(f"Missing required parameter: '{path}'.", param=path, code="missing_required_parameter")


def wrong_type(path: str, expected: str, value: JsonValue) -> InvalidRequest:
    message = f"Invalid type for '{path}': expected {expected}, but got {kind_of(value)} instead."
    return InvalidRequest(message, param=path, code="invalid_type")


def invalid_value(path: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, param=path, code="invalid_value")


def unsupported(path: str, reason: str) -> InvalidRequest:
    return InvalidRequest(
        f"Unsupported parameter: '{path}' is not supported by this server: {reason}",
        param=path,
        code="unsupported_parameter",
    )


def kind_of(value: JsonValue) -> str:
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


def too_long(path: str, limit: int, length: int) -> InvalidRequest:
    return InvalidRequest(
        f"Invalid '{path}': array too long. Expected an array with maximum length {limit}, but got an array with length"
        f" {length} instead.",
        param=path,
        code="array_above_max_length",
    )


def _check_range(name: str, kind: str, value: float, low: float | None, high: float | None) -> None:
    if low is not None and not value >= low:  # NaN fails too
        message = f"Invalid '{name}': {kind} below minimum value. Expected a value >= {low:g}, but got {value}"
        raise InvalidRequest(f"{message} instead.", param=name, code=f"{kind}_below_min_value")
    if high is not None and not value <= high:
        message = f"Invalid '{name}': {kind} above maximum value. Expected a value <= {high:g}, but got {value}"
        raise InvalidRequest(f"{message} instead.", param=name, code=f"{kind}_above_max_value")
