"""Python calls whose texts contain the quote that also ends them.

Small models write shell commands so: `bash(command='sed -n '1,5p' x.py')`. A quote ends a text only where an argument,
an element or the whole may end.
"""

import re

_ENDS = re.compile(
    r"""[\s)\]}]*+(?:\Z|:|,\s*+(?:["'\[{(\d-]|[A-Za-z_][\w.]*+\s*+[=(]|(?:[Tt]rue|[Ff]alse|None|null)\b)|(?<=\n)\w)"""
)
_KNOWN_ESCAPES = frozenset("\\'\"abfnrtv01234567xuUN\n")
_LINES = {"\n": "\\n", "\r": "\\r", "\0": "\\0"}


def requoted(text: str) -> str:
    """The same with such quotes escaped.

    Each character is looked at once, and what may end a text twice.
    """
    pieces: list[str] = []
    quote, at = "", 0
    while at < len(text):
        character = text[at]
        at += 1
        if not quote:
            quote = character if character in "'\"" else ""
            pieces.append(character)
        elif character == "\\":
            following = text[at : at + 1]
            pieces.append(f"\\{following}" if following in _KNOWN_ESCAPES else f"\\\\{following}")
            at += 1
        elif character == quote and _ENDS.match(text, at):
            quote = ""
            pieces.append(character)
        else:
            pieces.append(f"\\{character}" if character == quote else _LINES.get(character, character))
    return "".join(pieces)
