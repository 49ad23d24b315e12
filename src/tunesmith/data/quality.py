"""Signs that a text was damaged on its way here: control characters, wrong decoding, left-over template tokens.

The raw bytes are searched first, which is cheap; only a chunk that shows a sign has its texts searched one by one.
Not covered: mojibake of other pairs than UTF-8 read as Latin-1 or Windows-1252.
"""

import re
from collections.abc import Sequence

from tunesmith.data.batch import Batch
from tunesmith.data.findings import Fault, Finding, shorten
from tunesmith.data.result import ChunkResult, Partial
from tunesmith.jsonvalue import JsonObject

# The characters U+0080 to U+00BF, and what Windows-1252 shows in their place.
_HIGH = (
    "\u0080-\u00bf\u20ac\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\u017d"
    "\u2018-\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\u017e\u0178"
)
_SIGNS = {
    "mojibake": re.compile(
        f"[\u00c2\u00c3][{_HIGH}]|\u00e2\u20ac[{_HIGH}]|\u00ef\u00bb\u00bf|[\u00e4-\u00e9][{_HIGH}]{{2}}"
    ),
    "control_character": re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"),
    "replacement_character": re.compile("\ufffd"),
    "special_token_text": re.compile(
        r"<\|(?:im_start|im_end|endoftext|begin_of_text|end_of_text|eot_id|start_header_id|end_header_id|system|user"
        r"|assistant|end|eom_id|python_tag)\|>|\[/?INST\]|<</?SYS>>|</s>|<(?:start|end)_of_turn>"
    ),
}
_TEXTS = {
    "mojibake": "Text decoded with the wrong character set, at",
    "control_character": "A control character, at",
    "replacement_character": "A lost character (U+FFFD), at",
    "special_token_text": "Text that looks like a control token, at",
}
_ASCII_HINTS = re.compile(rb"\x7f|<\||INST\]|SYS>>|</s>|_of_turn>")
_ESCAPE_HINTS = re.compile(
    rb"\\u(?:00(?:0[0-8bBcCeEfF]|1[0-9a-fA-F]|7[fF]|[89][0-9a-fA-F]|[cC][23]|[eEfF][0-9a-fA-F])|[fF]{3}[dD])"
)
_HIGH_HINTS = re.compile(rb"\xc2[\x80-\x9f]|\xc3[\x82\x83\xa2\xa4-\xa9\xaf][\xc2\xc5\xc6\xcb\xe2]|\xef\xbf\xbd")
_SHORT_ESCAPE = re.compile(rb"(?<!\\)(?:\\\\)*\\[bf]")


class TextQuality:
    def look(self, data: bytes, batch: Batch, result: ChunkResult) -> Partial:
        if _suspicious(data):
            for number, text in enumerate(batch.texts):
                for fault in _faults(text):
                    line, path = batch.place(number)
                    result.log.add_fault(Fault(fault.code, path, fault.message, fault.value), line)
        return Partial()

    def finish(self, partials: Sequence[Partial], whole: ChunkResult) -> tuple[list[Finding], JsonObject]:
        return [], {}


def _suspicious(data: bytes) -> bool:
    if _ASCII_HINTS.search(data):
        return True
    if b"\\u" in data and _ESCAPE_HINTS.search(data):
        return True
    if (data.count(b"\\b") or data.count(b"\\f")) and _SHORT_ESCAPE.search(data):
        return True
    return not data.isascii() and _HIGH_HINTS.search(data) is not None


def _faults(text: str) -> list[Fault]:
    found: list[Fault] = []
    for code, sign in _SIGNS.items():
        match = sign.search(text)
        if match is None or (code == "control_character" and any(one.code == "mojibake" for one in found)):
            continue
        around = text[max(0, match.start() - 10) : match.end() + 10]
        found.append(Fault(code, "", f"{_TEXTS[code]} character {match.start()}.", shorten(around)))
    return found
