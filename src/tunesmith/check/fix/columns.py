"""Rows of which the user says what each column is."""

from dataclasses import dataclass

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.rows.other_shapes.parts import plain_text
from tunesmith.rows.other_shapes.result import Converted, UnclearShapeError


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that make a row, each by its name.

    Several of `prompt` are joined with a blank line between them; without any, all of the completion is learned.
    """

    completion: str
    prompt: tuple[str, ...] = ()
    system: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.prompt, self.completion, *((self.system,) if self.system is not None else ()))

    def row(self, source: JsonObject) -> Converted:
        """The row of ours that these columns of `source` make.

        UnclearShapeError where one of them has no text.
        """
        answer = _text(source, self.completion)
        shape = f"the columns {', '.join(self.names)}"
        dropped = tuple(key for key in source if key not in self.names)
        if not self.prompt and self.system is None:
            return Converted(shape, {"prompt": "", "completion": answer}, dropped)
        messages: list[JsonValue] = []
        if self.system is not None:
            messages.append({"role": "system", "content": _text(source, self.system)})
        if self.prompt:
            asked = "\n\n".join(text for text in (_text(source, name) for name in self.prompt) if text)
            messages.append({"role": "user", "content": asked})
        messages.append({"role": "assistant", "content": answer})
        return Converted(shape, {"messages": messages}, dropped)


def _text(source: JsonObject, name: str) -> str:
    value = source.get(name)
    text = "" if value is None and name in source else plain_text(value)
    if text is None:
        has = ", ".join(source) or "no keys"
        raise UnclearShapeError(f"The row has no text under '{name}'; it has {has}.", "unclear_columns")
    return text
