"""Signs of damaged text.

Control characters, wrong decoding, left-over template tokens.

The raw bytes are searched first, which is cheap; only a chunk that shows a sign has its texts searched one by one.
Not covered: mojibake of other pairs than UTF-8 read as Latin-1 or Windows-1252.
"""

import re
from collections.abc import Iterator, Sequence

from ahocorasick_rs import BytesAhoCorasick

from tunesmith.check.scan.batch import Batch
from tunesmith.check.scan.result import ChunkResult, Partial
from tunesmith.jsonvalue import JsonObject
from tunesmith.rows.findings import Fault, Finding, FindingLog, shorten

# The characters U+0080 to U+00BF, and what Windows-1252 shows in their place.
_HIGH = (
    "\u0080-\u00bf\u20ac\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\u017d"
    "\u2018-\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\u017e\u0178"
)
_TOKENS = {
    b"<|": re.compile(
        r"<\|(?:im_start|im_end|endoftext|begin_of_text|end_of_text|eot_id|start_header_id|end_header_id|eom_id"
        r"|python_tag|system|user|assistant|end)\|>"
    ),
    b"[INST]": re.compile(r"\[INST\]"),
    b"</s>": re.compile(r"</s>"),
    b"<start_of_turn>": re.compile(r"<start_of_turn>"),
    b"<end_of_turn>": re.compile(r"<end_of_turn>"),
}
_MARKERS = BytesAhoCorasick(list(_TOKENS))  # finds nothing in a megabyte in 40 us; five searches with `in` take 2 ms
_CONTROL_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_MOJIBAKE_TEXT = re.compile(
    f"[\u00c2\u00c3][{_HIGH}]|\u00e2\u20ac[{_HIGH}]|\u00ef\u00bb\u00bf|[\u00e4-\u00e9][{_HIGH}]{{2}}"
)
_LOST_TEXT = re.compile("\ufffd")
_TEXTS = {
    "mojibake": "Text decoded with the wrong character set, at",
    "control_character": "A control character, at",
    "replacement_character": "A lost character (U+FFFD), at",
    "special_token_text": "Text that looks like a control token, at",
}
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]|\xc2[\x80-\x9f]")
_MOJIBAKE = re.compile(rb"\xc3[\x82\x83\xa2\xa4-\xa9\xaf][\xc2\xc5\xc6\xcb\xe2]")


class TextQuality:
    """The analyser `text_quality`."""

    def analyse(self, data: bytes, batch: Batch, result: ChunkResult) -> Partial:
        """A warning for each text with a sign of damage."""
        for code, sign in _suspected(batch.blob, batch.odd):
            found = [(text, at) for number, at in _first_places(batch, sign) for text in batch.everywhere(number)]
            for text, at in sorted(found):
                line, path = batch.place(text)
                around = batch.texts[text][max(0, at - 10) : at + 12]
                result.log.add_fault(Fault(code, path, f"{_TEXTS[code]} character {at}.", shorten(around)), line)
        return Partial()

    def finish(self, partials: Sequence[Partial], whole: ChunkResult) -> tuple[list[Finding], JsonObject]:
        """Nothing: each finding is about one row."""
        return [], {}


def _first_places(batch: Batch, sign: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    """(number of the text, position in it) of the first match in each text: one finding a text is enough."""
    last = -1
    for match in sign.finditer(batch.joined):
        number, position = batch.text_at(match.start())
        if number != last:
            yield number, position
        last = number


def unwritable(batch: Batch, lost: bytes, log: FindingLog) -> None:
    """Warns of texts with a character that a base's tokenizer cannot write.

    It has no token for the bytes `lost`.
    """
    if not lost or len(batch.odd.translate(None, lost)) == len(batch.odd):
        return
    odd = [character for character in set(batch.odd.decode()) if any(byte in lost for byte in character.encode())]
    sign = re.compile(f"[{re.escape(''.join(odd))}]")
    found = [(text, at) for number, at in _first_places(batch, sign) for text in batch.everywhere(number)]
    for text, at in sorted(found):
        line, path = batch.place(text)
        name = f"U+{ord(batch.texts[text][at]):04X}"
        message = f"The base's tokenizer has no token for {name}, at character {at}: the model is trained without it."
        log.add_fault(Fault("unwritable_character", path, message, name), line)


def _suspected(text: bytes, odd: bytes) -> list[tuple[str, re.Pattern[str]]]:
    """The signs that may be there. `odd` is what there is of `text` but printable ASCII: little to search."""
    signs = list(_TOKENS.values())
    markers = {marker for marker, _, _ in _MARKERS.find_matches_as_indexes(text)}
    found = [("special_token_text", signs[marker]) for marker in sorted(markers)]
    if _CONTROL.search(odd):
        found.append(("control_character", _CONTROL_TEXT))
    if not odd.isascii():
        found += [("mojibake", _MOJIBAKE_TEXT)] if _MOJIBAKE.search(odd) else []
        found += [("replacement_character", _LOST_TEXT)] if b"\xef\xbf\xbd" in odd else []
    return found
