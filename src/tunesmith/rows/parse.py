"""Parses lines of bytes into JSON values, or says what is wrong with them.

Guards against what a fast parser lets through: duplicate keys, and nesting deeper than later steps can follow.
"""

import json
from collections import Counter
from collections.abc import Sequence
from enum import Enum
from typing import TypeAlias

import orjson

from tunesmith.jsonvalue import JsonValue
from tunesmith.rows.findings import Fault, shorten
from tunesmith.rows.json_faults import JsonFault, json_fault, near, not_a_number

MAX_DEPTH = 64
EXPLAIN_BYTES = 1024 * 1024  # lines above this keep the fast parser's shorter message

_NESTING = (dict, list)


class Unparsed(Enum):
    """The type of `UNPARSED`, which stands for the value of a line that is not JSON."""

    UNPARSED = "unparsed"


UNPARSED = Unparsed.UNPARSED
ParsedLine: TypeAlias = "JsonValue | Unparsed"


class BrokenLine(ValueError):
    """A line that is not one JSON value; `fault` says why."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


def parse_line(raw: bytes) -> JsonValue:
    """The value of one line.

    Raises BrokenLine if there is none that every reader would agree on.
    """
    try:
        value: JsonValue = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BrokenLine(_explain(raw, error)) from None
    return unambiguous(raw, value)


def parse_block(lines: Sequence[bytes]) -> list[ParsedLine]:
    """The value of each line, UNPARSED for one that is not JSON.

    Nothing else is checked; see `unambiguous`.
    """
    values: list[ParsedLine] = []
    while len(values) < len(lines):
        try:
            values.extend(map(orjson.loads, lines[len(values) :]))
        except orjson.JSONDecodeError:  # the values before it are in the list already
            values.append(UNPARSED)
    return values


def unambiguous(raw: bytes, value: JsonValue) -> JsonValue:
    """Returns `value`, as it was parsed from `raw`.

    Raises BrokenLine where another reader could see something else in the line.
    """
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH:
        _refuse_deep(value)
    # A duplicate key is lost, with its quotes. Any other difference between the two only costs the slower search.
    if _quotes(raw) != _quotes(orjson.dumps(value)):
        _find_twice(raw)
    return value


def _quotes(text: bytes) -> int:
    """Quotes without a backslash before them: those that begin and end strings, mostly."""
    return text.count(b'"') - text.count(b'\\"')


def _refuse_deep(value: JsonValue) -> None:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_DEPTH):
        below: list[dict[str, JsonValue] | list[JsonValue]] = []
        for one in level:
            inner = one.values() if isinstance(one, dict) else one
            below += [value for value in inner if type(value) in _NESTING]  # type: ignore[misc]
        if not below:
            return
        level = below
    text = f"The JSON is nested more than {MAX_DEPTH} levels deep."
    raise BrokenLine(Fault("too_deep", "", text))


def _find_twice(raw: bytes) -> None:
    def pairs(items: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
        made = dict(items)
        if len(made) < len(items):
            key = next(key for key, times in Counter(key for key, _ in items).items() if times > 1)
            raise BrokenLine(
                Fault("duplicate_key", "", f"Key {shorten(key)} occurs twice in one object.", shorten(key))
            )
        return made

    json.loads(raw, object_pairs_hook=pairs, parse_int=str)


def _explain(raw: bytes, error: orjson.JSONDecodeError) -> Fault:
    start = shorten(raw[:40].decode("utf-8", "replace"))
    try:
        text = raw.decode()
    except UnicodeDecodeError as bad:
        byte = f"byte 0x{raw[bad.start]:02x} at position {bad.start}"
        return Fault("not_utf8", "", f"The line is not UTF-8: {byte}.", start)
    if "depth limit" in error.msg:
        return Fault("too_deep", "", f"The JSON is nested more than {MAX_DEPTH} levels deep.", start)
    said = str(error)
    syntax: JsonFault | None = None
    if len(raw) <= EXPLAIN_BYTES:
        try:
            # The standard library's words are those that OpenAI's service uses.
            json.loads(text, parse_constant=_refuse, parse_int=str)
        except json.JSONDecodeError as plain:
            said, syntax = str(plain), json_fault(text, plain)
        except (ValueError, RecursionError) as plain:
            said, syntax = str(plain), not_a_number(text)
        else:
            if "surrogate" in error.msg:
                said = f"The line holds half a surrogate pair: {error}."
                where, place = f"column {error.pos + 1}", near(text, error.pos)
                return Fault("lone_surrogate", where, "A text has half a surrogate pair.", place, said=said)
    syntax = syntax or json_fault(text, error)
    place = near(text, syntax.position)
    said = f"The line contains invalid json: {said}."
    return Fault("invalid_json", f"column {syntax.column}", syntax.message, place, syntax.fix, said)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON value")
