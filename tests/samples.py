"""How much of a long list of cases `make test` tries: with ALL_CASES=1 (`make test-whole`) everything.

A test marked `drawn(most)` is tried with so many of its cases, others each day; with `by="name"` with all cases of so
many values of that parameter. The day's choice again: CASES_SEED=<the number in pytest's first lines>. A case that is
named (`file::test[case]`) is tried whatever the day.
"""

import os
import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TypeVar

import pytest

T = TypeVar("T")
WHOLE = bool(os.environ.get("ALL_CASES"))
SEED = "CASES_SEED"


def in_turn(cases: Sequence[T], ways: int) -> list[T]:
    """Of cases in groups of `ways`, one of each group: the first of the first, the second of the second, and so on.

    For pairs of a case and one of so many ways to treat it, so that each case and each way is tried.
    """
    return [case for place, case in enumerate(cases) if WHOLE or place % ways == place // ways % ways]


def drawn(cases: Sequence[dict[str, object]], most: int, seed: str) -> set[int]:
    """The places of `most` cases (their parameters by name), in which as many values as can be are tried.

    First come cases that have a value none before them has: of pairs of a family and a talk, each family and each talk.
    """
    places = random.Random(seed).sample(range(len(cases)), len(cases))
    tried: set[tuple[str, str]] = set()
    chosen: list[int] = []
    for place in places:
        values = set(_values(cases[place]))
        if not values <= tried:
            tried |= values
            chosen.append(place)
    others = [place for place in places if place not in chosen]
    return set((chosen + others)[:most])


def _values(case: dict[str, object]) -> Iterator[tuple[str, str]]:
    return ((name, repr(value)) for name, value in case.items())


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "drawn(most, by=None): so many of the cases, others each day (tests/samples.py)")
    os.environ.setdefault(SEED, str(datetime.now(UTC).date().toordinal()))  # for all processes of a run, over midnight


def pytest_report_header() -> str:
    return f"cases: {'all' if WHOLE else f'{SEED}={os.environ[SEED]}'}"


@pytest.hookimpl(trylast=True)  # what is chosen by name has been chosen by then
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if WHOLE:
        return
    lists: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("drawn"):
            lists.setdefault(item.nodeid.partition("[")[0], []).append(item)
    left = {item for name, cases in lists.items() for item in _left(name, cases)}
    if left:
        items[:] = [item for item in items if item not in left]
        config.hook.pytest_deselected(items=sorted(left, key=lambda item: item.nodeid))


def _left(name: str, cases: list[pytest.Item]) -> list[pytest.Item]:
    mark = cases[0].get_closest_marker("drawn")
    assert mark is not None
    (most,), by = mark.args, mark.kwargs.get("by")
    params: list[dict[str, object]] = [item.callspec.params for item in cases]  # type: ignore[attr-defined]
    seed = f"{name} {os.environ[SEED]}"
    if by is None:
        kept = drawn(params, most, seed)
        return [item for place, item in enumerate(cases) if place not in kept]
    values = [*dict.fromkeys(repr(one[by]) for one in params)]
    tried = {values[place] for place in drawn([{by: value} for value in values], most, seed)}
    return [item for item, one in zip(cases, params, strict=True) if repr(one[by]) not in tried]
