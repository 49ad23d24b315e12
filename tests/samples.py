"""How much of a long list of cases `make test` tries: with ALL_CASES=1 (`make test-whole`) everything."""

import os
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")
WHOLE = bool(os.environ.get("ALL_CASES"))


def in_turn(cases: Sequence[T], ways: int) -> list[T]:
    """Of cases in groups of `ways`, one of each group: the first of the first, the second of the second, and so on.

    For pairs of a case and one of so many ways to treat it, so that each case and each way is tried.
    """
    return [case for place, case in enumerate(cases) if WHOLE or place % ways == place // ways % ways]
