"""Placeholders in a grader's texts, checked, then filled in once.

`{{item.label}}`, `{{sample.output_text}}`, `{{sample.output_json.name}}`, `{{sample.output_tools[0].function.name}}`
and `{{sample.choices[0].message.content}}`. What is filled in is never read for further placeholders, so a sample
cannot reach into the item.
"""

import json
import re
from dataclasses import dataclass, field
from functools import lru_cache

import orjson

from tunesmith.errors import InvalidRequest, TunesmithError
from tunesmith.jsonvalue import JsonObject, JsonValue, exact_json

PLACE = re.compile(r"\{\{([^{}]*+)\}\}")  # possessive: no text makes it go back and forth
PATH = re.compile(r"(item|sample)((?:\.\w[\w-]*|\[\d+\])+)")
SAMPLE_STEPS = re.compile(r"\.(?:output_text$|(?:output_json|output_tools|choices)\b)")
STEP = re.compile(r"\.(\w[\w-]*)|\[(\d+)\]")
MAX_INDEX_DIGITS = 9  # Python refuses to read numbers of more than 4300
MAX_PATH = 1000  # characters of a placeholder
MAX_CHARS = 100_000  # of a filled-in text: beyond it the comparisons take seconds


class NoValue(TunesmithError):
    """A placeholder that has no value.

    `flag` is its name among the errors of a grader's result.
    """

    def __init__(self, message: str, flag: str) -> None:
        super().__init__(message)
        self.flag = flag


@dataclass(frozen=True, slots=True)
class Variables:
    """What may be filled in: a model's answer, its tool calls, a dataset's row."""

    sample: str
    item: JsonObject = field(default_factory=dict)
    tool_calls: tuple[JsonObject, ...] = ()

    def choices(self) -> list[JsonValue]:
        """The answer as a chat completion lists it."""
        message: JsonObject = {"role": "assistant", "content": self.sample}
        if self.tool_calls:
            message["tool_calls"] = list(self.tool_calls)
        return [{"index": 0, "message": message}]


def checked_template(text: str, param: str) -> str:
    """The text itself. Raises InvalidRequest for an unknown placeholder."""
    for match in PLACE.finditer(text):
        path = match.group(1).strip()
        found = PATH.fullmatch(path) if len(path) <= MAX_PATH else None
        known = found and (found[1] == "item" or SAMPLE_STEPS.match(found[2]))
        if not known:
            raise InvalidRequest(
                f"{{{{{path[:60]}}}}} cannot be filled in here. Use {{{{item.NAME}}}}, {{{{sample.output_text}}}},"
                " {{sample.output_json.NAME}}, {{sample.output_tools[0].function.name}} or"
                f" {{{{sample.choices[0].message.content}}}}. - '{param}'",
                param=param,
            )
    return text


def fill(text: str, variables: Variables, param: str) -> str:
    """Fills the values into `text`: strings as they are, others as JSON."""
    parts: list[str] = []
    values: dict[str, str] = {}  # by path: most texts name each once, and a value may be long
    size, at = 0, 0
    for match in PLACE.finditer(text):
        path = match.group(1).strip()
        if path not in values:
            values[path] = _shown(_look_up(path, variables))
        parts += (text[at : match.start()], values[path])
        size, at = size + len(parts[-2]) + len(parts[-1]), match.end()
        _check_size(size, param)
    _check_size(size + len(text) - at, param)
    return "".join([*parts, text[at:]])


def _check_size(size: int, param: str) -> None:
    """Raises InvalidRequest for a text that has become too long, before all of it is made."""
    if size > MAX_CHARS:
        raise InvalidRequest(
            f"The filled-in text has more than {MAX_CHARS:,} characters; no more are graded. - '{param}'",
            param=param,
        )


def _look_up(path: str, variables: Variables) -> JsonValue:
    root, steps = path.partition(".")[0].partition("[")[0], STEP.findall(path)
    value: JsonValue = variables.item
    if root == "sample":
        value, steps = _of_sample(steps[0][0], variables), steps[1:]
    for name, index in steps:
        value = _step(value, name or index, path)
    return value


def _of_sample(name: str, variables: Variables) -> JsonValue:
    match name:
        case "output_text":
            return variables.sample
        case "output_tools":
            return list(variables.tool_calls)
        case "choices":
            return variables.choices()
    return sample_json(variables.sample)


def _step(value: JsonValue, key: str, path: str) -> JsonValue:
    if isinstance(value, dict) and key in value:
        return value[key]
    if isinstance(value, list) and key.isdecimal() and len(key) <= MAX_INDEX_DIGITS and int(key) < len(value):
        return value[int(key)]
    raise NoValue(f"{{{{{path[:60]}}}}} has no value: there is no {key[:60]!r}.", "invalid_variable_error")


@lru_cache(maxsize=2)  # a template may read the same sample a thousand times
def sample_json(sample: str) -> JsonValue:
    """The value of an answer that is JSON. Raises NoValue for another."""
    try:
        return exact_json(sample)
    except (ValueError, RecursionError) as error:
        raise NoValue(f"The model sample is not JSON ({error}).", "sample_parse_error") from error


def _shown(value: JsonValue) -> str:
    if isinstance(value, str):
        return value
    try:
        return orjson.dumps(value).decode()
    except TypeError as error:
        if "64-bit" in str(error):  # it writes no larger whole number
            return _with_every_digit(value)
        raise _too_deep() from error


def _with_every_digit(value: JsonValue) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except RecursionError as error:
        raise _too_deep() from error


def _too_deep() -> NoValue:
    return NoValue("A value is nested too deeply to be filled in as JSON.", "invalid_variable_error")
