"""Real objects in place of generated ids."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # schemathesis takes seconds to import, in each process of `make test`: tests do it that use it
    from tests.fuzz.fuzzing import AnyCase

Make = Callable[[], str]


class Objects:
    """Ids of real objects, by the name in the path. One that a request used up is replaced."""

    def __init__(self, makers: dict[str, Make]) -> None:
        self._makers = makers
        self._made = {name: make() for name, make in makers.items()}

    def fill(self, case: "AnyCase") -> None:
        for name in case.path_parameters or {}:
            if name in self._made:
                case.path_parameters[name] = self._made[name]

    def renew(self, case: "AnyCase") -> None:
        for name in case.path_parameters or {}:
            if name in self._made:
                self._made[name] = self._makers[name]()
