"""Numbers and texts as pages spell them, written a second time."""

from typing import Any

from tunesmith.web.language import text

Json = Any  # as the wire has it


def t(key: str, **values: object) -> str:
    """A text of the pages, with its spaces as a page's words have them."""
    return " ".join(text("en", key, **values).split())


def share(value: float) -> str:
    """0.875 as 87.5 %."""
    return f"{100 * value:.1f} %"


def ends(one: Json) -> str:
    """The ends of an interval of shares."""
    return f"{100 * one['low']:.1f} – {100 * one['high']:.1f}"


def points(one: Json) -> str:
    """A difference of shares with its interval."""
    return f"{100 * one['value']:+.1f} {100 * one['low']:+.1f} … {100 * one['high']:+.1f}"


def p_of(value: float) -> str:
    """A p value with its name."""
    return f"{t('evaluations.p')} " + ("< 0.001" if value < 0.001 else f"{value:.3f}")
