"""What a verdict's decision looks like on every page."""

from tunesmith.evals.comparison import Decision

BADGES: dict[Decision, str] = {
    "better": "good",
    "worse": "bad",
    "closer": "info",
    "further": "warn",
    "not decisive": "warn",
    "too few rows": "warn",
}
UNKNOWN = "unknown"  # of a later version's file


def badge(decision: str | None) -> str:
    """The class of a decision's badge."""
    return next((shown for known, shown in BADGES.items() if known == decision), "info")


def text_key(decision: str | None) -> str:
    """The end of the key of a decision's text, among those of `verdict`."""
    return decision.replace(" ", "_") if decision is not None and decision in BADGES else UNKNOWN
