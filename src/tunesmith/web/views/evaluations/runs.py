"""Runs of an eval: what each criterion passed, and two runs compared."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from tunesmith.evals.runs.comparison import Shares, compare_shares, tabulate
from tunesmith.evals.statistics import Interval, wilson
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.store.evals.rows import PairedItem
from tunesmith.web.views.evaluations.flips import text_of
from tunesmith.web.views.evaluations.intervals import Scale, Whisker, around_zero

SHARES = Scale(0.0, 1.0)
FLIPS_SHOWN = 10
MOST_SHOWN = 20_000  # characters of a text


@dataclass(frozen=True, slots=True)
class Grader:
    """How many rows passed one criterion of a run, with the interval of the share."""

    name: str
    passed: int
    failed: int
    share: Interval
    drawn: Whisker
    width: float  # of the bar of those that passed, in 100


@dataclass(frozen=True, slots=True)
class Compared:
    """One criterion in two runs; `name` "" stands for all of them together."""

    name: str
    shares: Shares
    before: Whisker
    after: Whisker
    difference: Whisker


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs over the rows that both have done."""

    rows: int
    criteria: tuple[Compared, ...]
    zero: float
    reach: float
    gained: tuple[tuple[str, str], ...]  # ids of the row's items in both runs
    lost: tuple[tuple[str, str], ...]
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Shown:
    """An output item for reading."""

    number: int
    status: str
    item: str
    answer: str
    error: str
    results: tuple[JsonObject, ...]


def graders(run: JsonObject) -> tuple[Grader, ...]:
    """The criteria of a run, as the API counts them."""
    found = []
    for one in cast("list[JsonObject]", run["per_testing_criteria_results"]):
        passed, failed = cast(int, one["passed"]), cast(int, one["failed"])
        share = wilson(passed, passed + failed)
        width = round(100 * share.value, 1)
        found.append(Grader(str(one["testing_criteria"]), passed, failed, share, SHARES.draw(share), width))
    return tuple(found)


def compare_runs(pairs: Sequence[PairedItem], criteria: Sequence[str]) -> Comparison:
    """What changed from one run to the other, over all criteria and for each."""
    whole = [one.before.state == "pass" for one in pairs], [one.after.state == "pass" for one in pairs]
    found = [("", compare_shares(tabulate(*whole)))]
    for name in criteria if len(criteria) > 1 else ():
        sides = [one.before.passed(name) for one in pairs], [one.after.passed(name) for one in pairs]
        found.append((name, compare_shares(tabulate(*sides))))
    scale = around_zero([shares.difference for _, shares in found])
    changed = [(one, new) for one, old, new in zip(pairs, *whole, strict=True) if old != new]
    gained = [(one.before.id, one.after.id) for one, new in changed if new]
    lost = [(one.before.id, one.after.id) for one, new in changed if not new]
    return Comparison(
        rows=len(pairs),
        criteria=tuple(_compared(name, shares, scale) for name, shares in found),
        zero=scale.at(0.0),
        reach=scale.end,
        gained=tuple(gained[:FLIPS_SHOWN]),
        lost=tuple(lost[:FLIPS_SHOWN]),
        counts={"gained": len(gained), "lost": len(lost)},
    )


def shown_item(item: JsonObject) -> Shown:
    """An output item as the API has it, with its texts bounded."""
    sample = cast(JsonObject, item["sample"] or {})
    output = cast("list[JsonValue]", sample.get("output") or [])
    said = [text_of(one) for one in output if isinstance(one, dict)]
    fault = cast(JsonObject, sample.get("error") or {})
    return Shown(
        number=cast(int, item["datasource_item_id"]),
        status=str(item["status"]),
        item=_item_text(cast(JsonObject, item["datasource_item"])),
        answer="\n".join(said)[:MOST_SHOWN],
        error=str(fault.get("message") or "")[:MOST_SHOWN],
        results=tuple(cast("list[JsonObject]", item["results"])),
    )


def _item_text(item: JsonObject) -> str:
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in item.items()}
    return "\n".join(f"{name}: {text}" for name, text in texts.items())[:MOST_SHOWN]


def _compared(name: str, shares: Shares, scale: Scale) -> Compared:
    return Compared(name, shares, SHARES.draw(shares.before), SHARES.draw(shares.after), scale.draw(shares.difference))
