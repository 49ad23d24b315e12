"""A `pattern` of JSON Schema (ECMA-262) as a term.

Not covered, and refused: word boundaries, look-behind, back references, Unicode properties, and a look-ahead that is
not in the outermost sequence.
"""

import re

from tunesmith.serve.schema.regular.terms import (
    ANYTHING,
    EMPTY,
    END,
    START,
    Ranges,
    Term,
    Unreadable,
    both,
    chars,
    complement,
    either,
    inverted,
    repeated,
    sequence,
)

_DIGITS: Ranges = ((48, 57),)
_WORDS: Ranges = ((48, 57), (65, 90), (95, 95), (97, 122))
_SPACES: Ranges = (
    *((9, 13), (32, 32), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A)),
    *((0x2028, 0x2029), (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF)),
)
_SETS = {"d": _DIGITS, "w": _WORDS, "s": _SPACES}
_CONTROLS = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13, "0": 0}
_NO_LINE_END = inverted(((10, 10), (13, 13), (0x2028, 0x2029)))
_GROUP_NAME = re.compile(r"<[A-Za-z]\w*>")
_REPEAT = re.compile(r"[*+?]|\{(\d++)(,?)(\d*+)\}")
_HEXADECIMAL = re.compile(r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|u\{([0-9a-fA-F]{1,6})\}")


def search(pattern: str) -> Term:
    """Every text with `pattern` somewhere in it. Raises Unreadable."""
    reader = _Reader(pattern)
    term = reader.alternatives(outermost=True)
    if reader.at < len(pattern):
        raise Unreadable(f"')' without '(' in {pattern[:80]!r}")
    return term


class _Reader:
    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0

    def alternatives(self, *, outermost: bool) -> Term:
        found = [self._sequence(outermost)]
        while self._taken("|"):
            found.append(self._sequence(outermost))
        return found[0] if len(found) == 1 else either(*found)

    def _sequence(self, outermost: bool) -> Term:
        parts: list[Term] = []
        aheads: list[tuple[int, Term]] = []
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            if self.pattern.startswith(("(?=", "(?!"), self.at):
                if not outermost:
                    raise Unreadable("look-ahead inside of a group")
                aheads.append((len(parts), self._ahead()))
            else:
                parts.append(self._repeated(self._atom()))
        if not outermost:
            return sequence(*parts)
        tail = sequence(*parts[aheads[-1][0] :] if aheads else parts, ANYTHING)
        for number, (place, ahead) in reversed(list(enumerate(aheads))):
            before = aheads[number - 1][0] if number else 0
            tail = sequence(*parts[before:place], both(ahead, tail))
        return sequence(ANYTHING, tail)

    def _ahead(self) -> Term:
        negative = self.pattern[self.at + 2] == "!"
        self.at += 3
        inner = sequence(self.alternatives(outermost=False), ANYTHING)
        self._closed()
        return complement(inner) if negative else inner

    def _repeated(self, part: Term) -> Term:
        match = _REPEAT.match(self.pattern, self.at)
        if match is None:
            return part
        self.at = match.end()
        self._taken("?")  # lazy: the same language
        if match[0] in "*+?":
            return repeated(part, int(match[0] == "+"), 1 if match[0] == "?" else None)
        least = int(match[1])
        most = (int(match[3]) if match[3] else None) if match[2] else least
        if most is not None and most < least:
            raise Unreadable(f"the repetition {match[0]!r}")
        return EMPTY if most == 0 else repeated(part, least, most)

    def _atom(self) -> Term:
        char = self._next()
        match char:
            case "^":
                return START
            case "$":
                return END
            case ".":
                return chars(_NO_LINE_END)
            case "[":
                return chars(self._class())
            case "(":
                return self._group()
            case "\\":
                return chars(self._escaped(inside=False))
            case "*" | "+" | "?":
                raise Unreadable(f"{char!r} with nothing to repeat")
        return chars(((ord(char), ord(char)),))

    def _group(self) -> Term:
        if self._taken("?") and not self._taken(":"):
            name = _GROUP_NAME.match(self.pattern, self.at)
            if name is None:
                raise Unreadable("a group of this kind")
            self.at = name.end()
        inner = self.alternatives(outermost=False)
        self._closed()
        return inner

    def _class(self) -> Ranges:
        negative, found = self._taken("^"), list[tuple[int, int]]()
        while not self._taken("]"):
            low = self._member()
            if self.pattern.startswith("-", self.at) and not self.pattern.startswith("-]", self.at):
                self.at += 1
                high = self._member()
                if len(low) > 1 or len(high) > 1 or low[0][0] > high[0][1]:
                    raise Unreadable("a range of this kind")
                low = ((low[0][0], high[0][1]),)
            found += low
        return inverted(tuple(found)) if negative else tuple(found)

    def _member(self) -> Ranges:
        char = self._next()
        return self._escaped(inside=True) if char == "\\" else ((ord(char), ord(char)),)

    def _escaped(self, *, inside: bool) -> Ranges:
        if match := _HEXADECIMAL.match(self.pattern, self.at):
            self.at = match.end()
            code = int(match[1] or match[2] or match[3], 16)
            if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
                raise Unreadable("half of a character")
            return ((code, code),)
        char = self._next()
        if char.lower() in _SETS:
            return _SETS[char] if char.islower() else inverted(_SETS[char.lower()])
        if char in _CONTROLS:
            return ((_CONTROLS[char], _CONTROLS[char]),)
        if char == "b" and inside:
            return ((8, 8),)
        if char.isalnum():
            raise Unreadable(f"'\\{char}'")
        return ((ord(char), ord(char)),)

    def _next(self) -> str:
        if self.at == len(self.pattern):
            raise Unreadable("its end, which comes too early")
        self.at += 1
        return self.pattern[self.at - 1]

    def _taken(self, text: str) -> bool:
        found = self.pattern.startswith(text, self.at)
        self.at += len(text) * found
        return found

    def _closed(self) -> None:
        if not self._taken(")"):
            raise Unreadable("'(' without ')'")
