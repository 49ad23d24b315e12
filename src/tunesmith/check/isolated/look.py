"""A look at a file's rows, such as a page needs.

It is a function of ours that runs in the child.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import cast

from tunesmith.errors import TunesmithError
from tunesmith.jsonvalue import JsonObject

LOOK, SEEN, REFUSED = "look", "seen", "refused"  # keys of a look, its answer, and an answer that is an error


@dataclass(frozen=True, slots=True)
class Look:
    """What to look at, and how long it may take.

    `function` is `module:name`; it takes `values` and returns a JSON object. It is never a user's text.
    """

    function: str
    values: JsonObject
    seconds: float
    memory: int  # bytes
    size: int = 0  # of the file, in bytes: a child that has read a large one ends

    def to_json(self) -> JsonObject:
        """The look as it goes through the pipe."""
        return {LOOK: self.function, "values": self.values, "seconds": self.seconds, "memory": self.memory}


def look_from_json(value: JsonObject) -> Look:
    """The look that `to_json` wrote."""
    values = cast(JsonObject, value["values"])
    return Look(str(value[LOOK]), values, float(str(value["seconds"])), int(str(value["memory"])))


def answer_to(look: Look) -> JsonObject:
    """What the function returns, or how it refuses; other errors are raised."""
    module, _, name = look.function.partition(":")
    function = cast(Callable[[JsonObject], JsonObject], getattr(import_module(module), name))
    try:
        return {SEEN: function(look.values)}
    except TunesmithError as error:
        return {REFUSED: error.message, "param": error.param, "code": error.code}
