"""What is wrong with a line that is not JSON: the place, its text, and the fix.

The standard library's parser says where it stopped and what it expected there; here is what that means to whoever wrote
the line.
"""

import re
from json import JSONDecodeError
from typing import NamedTuple

NEAR = 16  # characters shown on either side of the place

_PYTHON = {"None": "null", "True": "true", "False": "false"}
_NUMBERS = re.compile(r"-?Infinity|NaN")
_NO_NUMBER = re.compile(r"(?<![\w\"'])(-?Infinity|NaN)(?![\w\"'])")
_NUMBER_LIKE = re.compile(r"[-+]?\.?\d[\w.]*(?:[-+]\w+)?|[-+]")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?")
_WORD = re.compile(r"[A-Za-z_$][\w$]*")
_CURLY = "\u201c\u201d\u201e\u2018\u2019\u00ab\u00bb"
_CLOSED = ("}", "]", '"')


class JsonFault(NamedTuple):
    """A fault of the line's syntax; `position` counts characters from 0."""

    position: int
    message: str
    fix: str

    @property
    def column(self) -> int:
        """The place as editors count it, from 1."""
        return self.position + 1


def json_fault(text: str, error: JSONDecodeError) -> JsonFault:
    """The fault of a line that a parser refuses.

    `error` is the standard library's, or of a parser that words it alike.
    """
    at, rest, before = error.pos, text[error.pos :], text[: error.pos].rstrip()
    if error.msg.startswith("Unexpected UTF-8 BOM") or rest.startswith("\ufeff"):
        return JsonFault(at, "An invisible byte-order mark stands in front of the row.", "Delete it.")
    if error.msg.startswith("Extra data"):
        return _after_the_row(at, rest)
    if error.msg.startswith("Unterminated string"):
        fix = "End the text and the row on the line; a line break in a text is written \\n."
        return JsonFault(at, "The line ends within the text that begins here.", fix)
    if error.msg.startswith("Invalid control character"):
        written = {"\t": "\\t", "\r": "\\r", "\n": "\\n"}.get(rest[:1], f"\\u{ord(rest[:1] or ' '):04x}")
        return JsonFault(at, f"A text has a raw control character (U+{ord(rest[:1] or ' '):04X}).", f"Write {written}.")
    if error.msg.startswith("Invalid \\"):
        return JsonFault(at, "The backslash in a text begins no escape that JSON knows.", "Write \\\\ for a backslash.")
    if not rest.strip():
        return JsonFault(at, "The line ends before the row does.", "Write the whole row on one line, or delete it.")
    if error.msg.startswith("number is infinity"):  # orjson's words; the standard library reads such numbers
        return _too_large(at, rest)
    known = _comma(before, rest, error) or _unlike_json(at, rest) or _no_number(text, at)
    return known or _unexpected(at, rest, error)


def not_a_number(text: str) -> JsonFault | None:
    """The fault of a line with NaN or Infinity, which Python reads; else None."""
    found = _NO_NUMBER.search(text)
    return None if found is None else _number(found.start(), found.group())


def document_fault(text: str, error: JSONDecodeError) -> str:
    """Where and why a whole file is not JSON.

    Such as `line 3, column 5: a comma is missing`. `error` is the standard library's.
    """
    rest = text[error.pos :].strip()
    if not text.strip():
        return "it is empty"
    if not rest or error.msg.startswith("Unterminated string"):
        fault = JsonFault(error.pos, "It breaks off: the end is missing." if not rest else "This text has no end.", "")
    elif error.msg.startswith("Extra data"):
        fault = JsonFault(error.pos, "Text follows the end of the JSON.", "")
    elif error.pos == 0 and error.msg.startswith("Expecting value"):
        return "it does not begin like JSON"
    else:
        fault = json_fault(text, error)
    before = text[: fault.position]
    place = f"line {before.count(chr(10)) + 1}, column {fault.position - before.rfind(chr(10))}"
    return f"{place}: {fault.message[0].lower()}{fault.message[1:].removesuffix('.')}"


def near(text: str, position: int) -> str:
    """What stands around the place, cut at both sides, on one printable line."""
    start, end = max(0, position - NEAR), position + NEAR
    around = "".join(one if one.isprintable() else "\ufffd" for one in text[start:end])
    return f"{'…' if start else ''}{around}{'…' if end < len(text) else ''}"


def _after_the_row(at: int, rest: str) -> JsonFault:
    left = rest.strip()
    if left == ",":
        return JsonFault(at, "A comma follows the row.", "Delete it: rows are parted by line ends alone.")
    if left.lstrip(", ").startswith(("{", "[")):
        return JsonFault(at, "Another row follows on the same line.", "Begin a new line for it.")
    if left[0] in "}]":
        return JsonFault(at, f"There is a {left[0]} too many.", "Delete it, or write the bracket that it closes.")
    return JsonFault(at, "Text follows the row on its line.", "Delete it: a line holds one row and nothing else.")


def _comma(before: str, rest: str, error: JSONDecodeError) -> JsonFault | None:
    """A comma that is missing, or one too many."""
    if before.endswith(",") and rest[0] in "}]":
        return JsonFault(len(before) - 1, f"A comma stands before the closing {rest[0]}.", "Delete it.")
    if error.msg.startswith("Illegal trailing comma"):  # Python 3.13 names the comma's place
        return JsonFault(error.pos, "A comma stands before a closing bracket.", "Delete it.")
    if error.msg.startswith("Expecting ',' delimiter") and before[-1:].isalnum() and rest[0] in '"{[':
        return JsonFault(error.pos, "A comma is missing.", "Write it.")
    if error.msg.startswith("Expecting ',' delimiter") and before.endswith(_CLOSED):
        if before.endswith('"') and rest[0] not in '"{[':
            fix = 'Write \\" for a quote within a text, or the comma that is missing.'
            return JsonFault(error.pos, "A text ends here at a quote, and more follows.", fix)
        return JsonFault(error.pos, "A comma is missing.", "Write it.")
    return None


def _unlike_json(at: int, rest: str) -> JsonFault | None:
    """What other languages write and JSON does not know."""
    word = _WORD.match(rest)
    if rest[0] == "'":
        fix = "Write double quotes; Python's json.dumps does."
        return JsonFault(at, "A text stands in single quotes, as Python prints it.", fix)
    if rest[0] in _CURLY:
        return JsonFault(at, f"A text stands in typographic quotes ({rest[0]}).", 'Write plain double quotes (").')
    if rest.startswith(("//", "/*", "#")):
        return JsonFault(at, "A comment stands here, which JSON does not have.", "Delete it.")
    if number := _NUMBERS.match(rest):
        return _number(at, number.group())
    if word is not None and word.group() in _PYTHON:
        return JsonFault(at, f"{word.group()} is Python's.", f"Write {_PYTHON[word.group()]}.")
    return None


def _unexpected(at: int, rest: str, error: JSONDecodeError) -> JsonFault:
    if error.msg.startswith("Expecting property name"):
        if _WORD.match(rest):
            return JsonFault(at, "A key stands without quotes.", "Put it in double quotes.")
        return JsonFault(at, "A key in double quotes is expected here.", "Write it, or delete the comma before it.")
    if error.msg.startswith("Expecting ':'"):
        return JsonFault(at, "A colon is missing after a key.", "Write it, and a value after it.")
    if at == 0:
        return JsonFault(at, "The line is no JSON at all.", "Write one JSON object on it, or delete the line.")
    if error.msg.startswith("Expecting value"):
        return JsonFault(
            at, "A value is missing.", "Write one: a text in double quotes, a number, true, false or null."
        )
    return JsonFault(at, "The JSON breaks off here.", "Fix the syntax at this place, or delete the line.")


def _number(at: int, name: str) -> JsonFault:
    return JsonFault(at, f"{name} is no value of JSON.", "Write null or a number, or delete the row.")


def _too_large(at: int, rest: str) -> JsonFault:
    """A number that no decimal holds."""
    number = _NUMBER.match(rest)
    written = "" if number is None else number.group()
    if "e" in written.lower():
        message = f"{written[:40]} is not a finite number: decimals end at 1.8e308."
        return JsonFault(at, message, "Write a smaller one, or null.")
    return JsonFault(at, f"A number of {len(written):,} digits is too large to be read.", "Write one of less than 300.")


def _no_number(text: str, at: int) -> JsonFault | None:
    """A number as other languages write it: 01, .5, +1, 0x10, 1_000."""
    start = at
    while start and (text[start - 1].isalnum() or text[start - 1] in "+-._"):
        start -= 1
    found = _NUMBER_LIKE.match(text, start)
    if found is None or found.end() <= at - 1 or _NUMBER.fullmatch(found.group()):
        return None
    fix = "Write it as 0.5, -1 or 10: digits alone, none missing beside the point, no zero or + in front."
    return JsonFault(start, f"{found.group()[:40]} is not how JSON writes a number.", fix)
