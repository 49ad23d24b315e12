"""Where calls within a text end."""

_OPENS, _CLOSES = "([{", ")]}"


class ListEnd:
    """Finds the bracket that closes what `begin` opens.

    The text behind it may grow. Each character is looked at once.
    """

    def __init__(self, begin: str) -> None:
        self._depth = 0
        self._quote = ""
        self._escaped = False
        self._at = 0
        for character in begin:
            self._see(character)

    def find(self, text: str) -> int:
        """The place behind the closing bracket; -1 while there is none."""
        while self._at < len(text) and self._depth:
            self._see(text[self._at])
            self._at += 1
        return -1 if self._depth else self._at

    def _see(self, character: str) -> None:
        if self._quote:
            if self._escaped or character == "\\":
                self._escaped = not self._escaped
            elif character == self._quote:
                self._quote = ""
        elif character in "'\"":
            self._quote = character
        elif character in _OPENS:
            self._depth += 1
        elif character in _CLOSES:
            self._depth -= 1
