"""Lines that are not JSON but leave no doubt what was meant.

Stray commas, a byte-order mark, NaN, raw line ends in a text, single quotes as Python writes them, several objects on
a line. A text inside quotes is never changed.
"""

import ast
import re
import warnings
from typing import NamedTuple

import orjson

from tunesmith.jsonvalue import JsonValue
from tunesmith.rows.lines import BOM
from tunesmith.rows.parse import BrokenLine, parse_line

LITERAL_BYTES = 1024 * 1024  # of a line in Python's spelling; its parser takes a hundred times as much memory
# A text in either kind of quotes, or one of the marks that are looked for outside of texts.
# One that does not end goes up to the end of what is searched. Possessive: nothing is tried a second time.
_DOUBLE = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)'
_SINGLE = rb"'[^'\\]*+(?:\\.[^'\\]*+)*+(?:'|\\?\Z)"
TOKEN = re.compile(rb"(" + _DOUBLE + rb"|" + _SINGLE + rb")|([{\[])|([}\]])", re.DOTALL)
_LOOSE = re.compile(rb"(" + _DOUBLE + rb")|,(?=\s*[}\]])|-?\b(?:NaN|Infinity)\b", re.DOTALL)
_RAW_CONTROL = re.compile(rb"[\x00-\x1f]")


class Repaired(NamedTuple):
    """The values of a line, the text of each, and what was repaired."""

    values: list[tuple[JsonValue, bytes]]
    repairs: tuple[str, ...]


def read_line(raw: bytes) -> Repaired:
    """The values of a line that holds JSON, or nearly.

    BrokenLine, as `parse_line` raises it, for anything else.
    """
    try:
        return Repaired([(parse_line(raw), raw)], ())
    except BrokenLine as broken:
        if broken.fault.code != "invalid_json":
            raise
        repaired = _repaired(raw)
        if repaired is None:
            raise
        return repaired


def _repaired(raw: bytes) -> Repaired | None:
    text, repairs = raw.strip(), []
    if BOM in text[: len(BOM)]:
        text, repairs = text.removeprefix(BOM).strip(), ["removed byte-order marks"]
    if text.endswith(b","):
        text = text.rstrip(b", \t\r")
        repairs.append("removed commas after rows")
    pieces = split_objects(text)
    if pieces is None:
        return None
    if len(pieces) > 1:
        repairs.append("put rows on lines of their own")
    values: list[tuple[JsonValue, bytes]] = []
    for piece in pieces:
        found = _strict(piece) or _loose(piece) or _literal(piece)
        if found is None:
            return None
        value, name = found
        repairs += [name] if name else []
        values.append((value, piece))
    return Repaired(values, tuple(dict.fromkeys(repairs)))


def split_objects(text: bytes) -> list[bytes] | None:
    """The objects that stand one after another in a text.

    None if there is anything else between them.
    """
    pieces, depth, start, end = [], 0, 0, 0
    for token in TOKEN.finditer(text):
        if token.group(2):
            if depth == 0:
                if text[end : token.start()].strip(b" \t\r\n,"):
                    return None
                start = token.start()
            depth += 1
        elif token.group(3):
            depth -= 1
            if depth < 0:
                return None
            if depth == 0:
                end = token.end()
                pieces.append(text[start:end])
    return pieces if pieces and depth == 0 and not text[end:].strip(b" \t\r\n,") else None


def _strict(text: bytes) -> tuple[JsonValue, str] | None:
    try:
        return parse_line(text), ""
    except BrokenLine as broken:
        if broken.fault.code != "invalid_json":
            raise
        return None


def _loose(text: bytes) -> tuple[JsonValue, str] | None:
    """The value without commas before a bracket, with null for NaN, and with line ends in texts escaped."""
    found: set[str] = set()

    def replaced(match: re.Match[bytes]) -> bytes:
        if (quoted := match.group(1)) is not None:
            escaped = _RAW_CONTROL.sub(lambda one: b"\\u%04x" % one.group()[0], quoted)
            if escaped != quoted:
                found.add("escaped line ends in texts")
            return escaped
        comma = match.group() == b","
        found.add("removed trailing commas" if comma else "wrote null for NaN")
        return b"" if comma else b"null"

    fixed = _LOOSE.sub(replaced, text)
    try:
        return parse_line(fixed), " and ".join(sorted(found))
    except BrokenLine as broken:
        if broken.fault.code != "invalid_json":
            raise
        return None


def _literal(text: bytes) -> tuple[JsonValue, str] | None:
    """The value of a dictionary as Python prints it."""
    if len(text) > LITERAL_BYTES:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # of a backslash that Python leaves as it is
            tree = ast.parse(text.decode(), mode="eval")
        if any(isinstance(node, ast.Dict) and _has_twice(node) for node in ast.walk(tree)):
            return None
        return parse_line(orjson.dumps(ast.literal_eval(tree))), "rewrote Python's quotes"
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError, orjson.JSONEncodeError):
        return None


def _has_twice(node: ast.Dict) -> bool:
    keys = [key.value for key in node.keys if isinstance(key, ast.Constant)]
    return len(set(keys)) < len(keys)
