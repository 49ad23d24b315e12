"""How pages spell numbers, sizes, spans and moments."""

import time
from datetime import UTC, datetime

from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

from tunesmith.estimate.prices import dollars
from tunesmith.web.language import text

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


def size(value: float | None, language: str = "en") -> str:
    """A number of bytes as 12.3 MB."""
    if value is None:
        return "–"
    if value < 999.5:
        return text(language, "unit.bytes", n=round(value))
    amount, unit = float(value), 0
    while amount >= 999.5 and unit < len(UNITS) - 1:
        amount, unit = amount / 1000, unit + 1
    return f"{amount:.0f} {UNITS[unit]}" if amount >= 100 else f"{amount:.1f} {UNITS[unit]}"


def span(seconds: float | None, language: str = "en") -> str:
    """A number of seconds as 45 s, 3 min 20 s or 2 h 5 min."""
    if seconds is None:
        return "–"
    whole = max(0, round(seconds))
    if whole < 60:
        return text(language, "unit.seconds", n=whole)
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        kind = "unit.minutes_seconds" if rest else "unit.minutes"
        return text(language, kind, n=minutes, s=rest)
    return text(language, "unit.hours", n=minutes // 60, m=minutes % 60)


def moment(seconds: float | None) -> Markup:
    """A moment as a `time` element, in UTC.

    The page's script turns it into the viewer's zone.
    """
    if seconds is None:
        return Markup("–")
    when = datetime.fromtimestamp(seconds, UTC)
    spelled = escape(when.strftime("%Y-%m-%d %H:%M UTC"))
    return Markup('<time datetime="{}">{}</time>').format(when.strftime("%Y-%m-%dT%H:%M:%SZ"), spelled)


@pass_context
def _size(context: Context, value: float | None) -> str:
    return size(value, str(context["language"]))


@pass_context
def _span(context: Context, seconds: float | None) -> str:
    return span(seconds, str(context["language"]))


def age(seconds: float) -> float:
    """The seconds since a moment."""
    return max(0.0, time.time() - seconds)


FILTERS = {
    "number": number,
    "dollars": dollars,
    "percent": percent,
    "size": _size,
    "span": _span,
    "moment": moment,
    "age": age,
}
