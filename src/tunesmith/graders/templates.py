"""Placeholders in a grader's texts, checked, then filled in once.

`{{item.label}}` and `{{sample.output_text}}`. What is filled in is never read for further placeholders, so a sample
cannot reach into the item.
"""

import re
from dataclasses import dataclass, field

import orjson

from tunesmith.errors import InvalidRequest, TunesmithError
from tunesmith.jsonvalue import JsonObject, JsonValue

PLACE = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
PATH = re.compile(r"(item|sample)((?:\.\w[\w-]*|\[\d+\])+)")
STEP = re.compile(r"\.(\w[\w-]*)|\[(\d+)\]")
MAX_INDEX_DIGITS = 9  # Python refuses to read numbers of more than 4300
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
        path = match.group(1)
        found = PATH.fullmatch(path)
        known = found and (found[1] == "item" or re.match(r"\.output_(text$|json\b)", found[2]))
        if not known:
            raise InvalidRequest(
                f"{{{{{path}}}}} cannot be filled in here. Use {{{{item.NAME}}}}, {{{{sample.output_text}}}} or"
                f" {{{{sample.output_json.NAME}}}}. - '{param}'",
                param=param,
            )
    return text


def fill(text: str, variables: Variables, param: str) -> str:
    """Fills the values into `text`: strings as they are, others as JSON."""
    filled = PLACE.sub(lambda match: _shown(_look_up(match.group(1), variables)), text)
    if len(filled) > MAX_CHARS:
        raise InvalidRequest(
            f"The filled-in text has {len(filled):,} characters; at most {MAX_CHARS:,} are graded. - '{param}'",
            param=param,
        )
    return filled


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
