"""Usage by day, key and model, and what it would have cost."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from tunesmith.estimate.price_file import PriceBook
from tunesmith.estimate.prices import OPENAI, Price, dollars, usage_cost
from tunesmith.jsonvalue import JsonObject
from tunesmith.store.rows import COUNTERS, Counts

DAY = 86_400
SPANS = (7, 30, 90)  # days
METRICS = ("requests", "prompt_tokens", "completion_tokens", "trained_tokens")
MOST_LINES = 50  # of a table; the rest is one line
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 720, 200, 56, 24, 10


@dataclass(frozen=True, slots=True)
class Line:
    """One sum; `cost` None: not known."""

    name: str
    counts: Counts
    cost: str | None


@dataclass(frozen=True, slots=True)
class Bar:
    """A day of the chart."""

    x: float
    y: float
    width: float
    height: float
    day: str
    value: int


@dataclass(frozen=True, slots=True)
class Chart:
    """One counter by day; `most` is the highest bar."""

    metric: str
    bars: tuple[Bar, ...]
    most: int
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """A span of days: its sum, its days, and the sums by model and by key."""

    total: Line
    days: tuple[Line, ...]
    models: tuple[Line, ...]
    keys: tuple[Line, ...]
    chart: Chart
    price: Price


def first_day(days: int, now: float) -> int:
    """The start of the first of so many days, today included; of UTC."""
    return int(now) - int(now) % DAY - (days - 1) * DAY


def known_prices(book: PriceBook) -> list[str]:
    """The models that there are prices of, the user's own first."""
    tables = ([] if book.own is None else [book.own]) + [OPENAI]
    return list(dict.fromkeys(price.model for table in tables for price in table.prices))


def counts_of(result: JsonObject) -> Counts:
    """The counters of a result of the API."""
    extra = cast("dict[str, int]", result["tunesmith"])
    return Counts(
        requests=cast(int, result["num_model_requests"]),
        prompt_tokens=cast(int, result["input_tokens"]),
        cached_tokens=cast(int, result["input_cached_tokens"]),
        completion_tokens=cast(int, result["output_tokens"]),
        trained_tokens=extra["trained_tokens"],
    )


def make_usage(
    days: Sequence[JsonObject], models: Mapping[str, Counts], keys: Mapping[str, Counts], price: Price, metric: str
) -> Usage:
    """The whole page of what the API answered; `keys` by name."""
    by_day = {
        time.strftime("%Y-%m-%d", time.gmtime(cast(int, bucket["start_time"]))): sum(
            (counts_of(one) for one in cast("list[JsonObject]", bucket["results"])), Counts()
        )
        for bucket in days
    }
    whole = sum(by_day.values(), Counts())
    [total] = _lines({"": whole}, price)
    by_model, by_key = (_lines(_with_rest(sums, whole), price) for sums in (models, keys))
    return Usage(total, _lines(by_day, price), by_model, by_key, _chart(by_day, metric), price)


def _with_rest(sums: Mapping[str, Counts], total: Counts) -> dict[str, Counts]:
    """The sums, and one line for all that is not among them."""
    rest = {name: getattr(total, name) - sum(getattr(one, name) for one in sums.values()) for name in COUNTERS}
    return {**sums, "…": Counts(**rest)} if len(sums) == MOST_LINES and any(rest.values()) else dict(sums)


def _lines(sums: Mapping[str, Counts], price: Price) -> tuple[Line, ...]:
    """The digits of a sum are those that every page gives it."""
    costs = {name: usage_cost(price, counts) for name, counts in sums.items()}
    return tuple(
        Line(name, counts, None if (cost := costs[name]) is None else dollars(cost)) for name, counts in sums.items()
    )


def _chart(by_day: Mapping[str, Counts], metric: str) -> Chart:
    values = {day: int(getattr(counts, metric)) for day, counts in by_day.items()}
    most = max(values.values(), default=0)
    step = (WIDTH - LEFT - 8) / max(1, len(values))
    room = HEIGHT - TOP - BOTTOM
    bars = [
        Bar(
            x=round(LEFT + place * step + step * 0.12, 1),
            y=round(TOP + room * (1 - value / (most or 1)), 1),
            width=round(step * 0.76, 1),
            height=round(room * value / (most or 1), 1),
            day=day,
            value=value,
        )
        for place, (day, value) in enumerate(values.items())
    ]
    named = [0, len(bars) // 2, len(bars) - 1] if len(bars) > 2 else range(len(bars))
    ticks = tuple((round(LEFT + (place + 0.5) * step, 1), bars[place].day[5:]) for place in named)
    return Chart(metric, tuple(bars), most, ticks)
