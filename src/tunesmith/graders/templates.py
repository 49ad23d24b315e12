"""Placeholders in a grader's texts, checked, then filled in once.

`{{item.label}}` and `{{sample.output_text}}`. What is filled in is never read for further placeholders, so a sample
cannot reach into the item.
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache

import orjson

from tunesmith.errors import InvalidRequest, TunesmithError
from tunesmith.jsonvalue import JsonObject, JsonValue

PLACE = re.compile(r"\{\{([^{}]*+)\}\}")  # possessive: no text makes it go back and forth
PATH = re.compile(r"(item|sample)((?:\.\w[\w-]*|\[\d+\])+)")
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
    """What may be filled in: the model's sample, and a row of a dataset."""

    sample: str
    item: JsonObject = field(default_factory=dict)


def checked_template(text: str, param: str) -> str:
    """The text itself. Raises InvalidRequest for an unknown placeholder.

    Known are `item`, `sample.output_text` and `sample.output_json`.
    """
    for match in PLACE.finditer(text):
        path = match.group(1).strip()
        found = PATH.fullmatch(path) if len(path) <= MAX_PATH else None
        known = found and (found[1] == "item" or re.match(r"\.output_(text$|json\b)", found[2]))
        if not known:
            raise InvalidRequest(
                f"{{{{{path[:60]}}}}} cannot be filled in here. Use {{{{item.NAME}}}}, {{{{sample.output_text}}}} or"
                f" {{{{sample.output_json.NAME}}}}. - '{param}'",
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
        if steps[0][0] == "output_text":
            return variables.sample
        value, steps = _as_json(variables.sample), steps[1:]
    for name, index in steps:
        value = _step(value, name or index, path)
    return value


def _step(value: JsonValue, key: str, path: str) -> JsonValue:
    if isinstance(value, dict) and key in value:
        return value[key]
    if isinstance(value, list) and key.isdecimal() and len(key) <= MAX_INDEX_DIGITS and int(key) < len(value):
        return value[int(key)]
    raise NoValue(f"{{{{{path[:60]}}}}} has no value: there is no {key[:60]!r}.", "invalid_variable_error")


@lru_cache(maxsize=2)  # a template may read the same sample a thousand times
def _as_json(sample: str) -> JsonValue:
    try:
        value: JsonValue = orjson.loads(sample)
    except (orjson.JSONDecodeError, UnicodeEncodeError) as error:
        raise NoValue(f"The model sample is not JSON ({error}).", "sample_parse_error") from error
    return value


def _shown(value: JsonValue) -> str:
    if isinstance(value, str):
        return value
    try:
        return orjson.dumps(value).decode()
    except TypeError as error:
        raise NoValue("A value is nested too deeply to be filled in as JSON.", "invalid_variable_error") from error
