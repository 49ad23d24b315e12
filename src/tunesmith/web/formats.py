"""How pages spell numbers, sizes, spans and moments."""

import time
from datetime import UTC, datetime

from markupsafe import Markup, escape

from tunesmith.estimate.prices import dollars

UNITS = ("B", "kB", "MB", "GB", "TB")


def number(value: float | None, digits: int | None = None) -> str:
    """1,234 or 0.123; an en dash where there is none."""
    if value is None:
        return "–"
    if isinstance(value, int) or digits == 0:
        return f"{value:,.0f}"
    return f"{value:,.{3 if digits is None else digits}f}"


def percent(value: float | None, digits: int = 0) -> str:
    """A share of one as 61 %."""
    return "–" if value is None else f"{value * 100:.{digits}f} %"


def size(value: float | None) -> str:
    """A number of bytes as 12.3 MB."""
    if value is None:
        return "–"
    amount, unit = float(value), 0
    while amount >= 999.5 and unit < len(UNITS) - 1:
        amount, unit = amount / 1000, unit + 1
    return f"{amount:.0f} {UNITS[unit]}" if unit == 0 or amount >= 100 else f"{amount:.1f} {UNITS[unit]}"


def span(seconds: float | None) -> str:
    """A number of seconds as 45 s, 3 min 20 s or 2 h 5 min."""
    if seconds is None:
        return "–"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def moment(seconds: float | None) -> Markup:
    """A moment as a `time` element, in UTC.

    The page's script turns it into the viewer's zone.
    """
    if seconds is None:
        return Markup("–")
    when = datetime.fromtimestamp(seconds, UTC)
    spelled = escape(when.strftime("%Y-%m-%d %H:%M UTC"))
    return Markup('<time datetime="{}">{}</time>').format(when.strftime("%Y-%m-%dT%H:%M:%SZ"), spelled)


def age(seconds: float) -> float:
    """The seconds since a moment."""
    return max(0.0, time.time() - seconds)


FILTERS = {
    "number": number,
    "dollars": dollars,
    "percent": percent,
    "size": size,
    "span": span,
    "moment": moment,
    "age": age,
}
