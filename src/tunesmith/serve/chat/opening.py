"""What an answer begins with besides its text.

That is an empty block of thinking, or a thought that its prompt began.

A model tuned on plain answers writes its base's empty block first (Qwen3's `<think></think>`), because that is how the
base's template renders such answers. Nobody who asked for an answer wants to see it.
"""

from tunesmith.render.rendered import Opening
from tunesmith.serve.engine.protocol import Delta

Known = tuple[str, tuple[Delta, ...]]


class OpeningFilter:
    """Holds back the first tokens of an answer until they are known."""

    def __init__(self, opening: Opening | None) -> None:
        self._ids = () if opening is None else opening.ids
        self._begun = "" if opening is None else opening.begun
        self._held: tuple[Delta, ...] = ()
        self._done = opening is None or not (opening.ids or opening.begun)

    def add(self, delta: Delta) -> Known:
        """The text that comes before, and the tokens that are certain to be shown."""
        if self._done:
            return "", (delta,)
        self._held += (delta,)
        if delta.token != (self._ids[len(self._held) - 1] if self._ids else None):
            return self.flush()
        if len(self._held) == len(self._ids):
            self._held, self._done = (), True
        return "", ()

    def flush(self) -> Known:
        """What is held back, now that it cannot be the opening."""
        held, self._held = self._held, ()
        begun = "" if self._done or not held else self._begun
        self._done = True
        return begun, held
