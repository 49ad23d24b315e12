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
_DULL = bytes(code for code in range(0x20, 0x7F) if code not in b"<|") + b"\t\n\r"
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]|\xc2[\x80-\x9f]")
_MOJIBAKE = re.compile(rb"\xc3[\x82\x83\xa2\xa4-\xa9\xaf][\xc2\xc5\xc6\xcb\xe2]")


class TextQuality:
    def look(self, data: bytes, batch: Batch, result: ChunkResult) -> Partial:
        for code in _suspected(batch.joined.encode()):
            last = -1
            for match in _SIGNS[code].finditer(batch.joined):
                number, position = batch.text_at(match.start())
                if number == last:  # one finding a text is enough
                    continue
                last = number
                line, path = batch.place(number)
                around = batch.texts[number][max(0, position - 10) : position + 12]
                text = f"{_TEXTS[code]} character {position}."
                result.log.add_fault(Fault(code, path, text, shorten(around)), line)
        return Partial()

    def finish(self, partials: Sequence[Partial], whole: ChunkResult) -> tuple[list[Finding], JsonObject]:
        return [], {}


def _suspected(text: bytes) -> list[str]:
    """The signs that may be there. Deleting the dull bytes leaves little to search, and keeps odd neighbours together."""
    odd = text.translate(None, _DULL)
    tokens = b"<|" in odd or b"</s>" in text or b"INST]" in text or b"_of_turn>" in text
    found = ["special_token_text"] if tokens else []
    if _CONTROL.search(odd):
        found.append("control_character")
    if not odd.isascii():
        found += ["mojibake"] if _MOJIBAKE.search(odd) else []
        found += ["replacement_character"] if b"\xef\xbf\xbd" in odd else []
    return found
