"""What a template writes around texts, found once for a shape.

Of a row with twenty answers, forty texts are wanted: the prompt of each answer, and the conversation up to its end.
Where the messages are plain texts, they differ from those of another such row in these texts only. So the template
writes them once, with slots in the place of the texts. Whoever fills the slots has it write the longest one of the row
itself, and takes the rest only where it is the same.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TypeAlias

from tunesmith.jsonvalue import JsonObject

_SLOT = re.compile("\ufdd1([0-9]+)\ufdd1")
MOST_SHAPES = 128
MOST_TOOL_CHARS = 65_536  # declarations in the key of a shape
Pieces: TypeAlias = tuple[tuple[str, int], ...]  # literals, and the number of the message behind each; -1 for none


@dataclass(frozen=True, slots=True)
class Shape:
    """The texts of a shape.

    Of the whole, its last prompt, and (prompt, answer) of each answer that is learned.
    """

    whole: Pieces
    prompt: Pieces
    answers: Mapping[int, tuple[Pieces, Pieces]]


@dataclass(frozen=True, slots=True)
class Key:
    """What the texts of a shape depend on."""

    roles: tuple[str, ...]
    learned: tuple[int, ...]
    tools: str
    moment: tuple[str, ...]


class Shapes:
    """The last shapes of one template."""

    def __init__(self) -> None:
        self._known: OrderedDict[Key, Shape | None] = OrderedDict()
        self._lock = Lock()

    def of(self, key: Key, find: Callable[[], Shape | None]) -> Shape | None:
        """The shape of this key, or None where it has none; `find` finds it."""
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        found = find()
        with self._lock:
            self._known[key] = found
            if len(self._known) > MOST_SHAPES:
                self._known.popitem(last=False)
        return found


def are_plain(messages: Sequence[JsonObject]) -> bool:
    """Whether messages are texts alone, none of which a template would strip."""
    return all(
        len(one) == 2 and isinstance(text := one.get("content"), str) and text and text == text.strip()
        for one in messages
    )


def slotted(messages: Sequence[JsonObject]) -> list[JsonObject]:
    """The messages with slots in the place of their texts."""
    return [{**one, "content": f"\ufdd1{at}\ufdd1"} for at, one in enumerate(messages)]


def pieces(text: str, shared: dict[str, str]) -> Pieces:
    """A text with slots, cut at them; equal literals are `shared`."""
    parts = _SLOT.split(text)
    literals = [shared.setdefault(one, one) for one in parts[::2]]
    return tuple(zip(literals, [*map(int, parts[1::2]), -1], strict=True))


def filled(parts: Pieces, texts: Sequence[str]) -> str:
    """The text with `texts` in its slots."""
    return "".join([literal + texts[at] if at >= 0 else literal for literal, at in parts])
