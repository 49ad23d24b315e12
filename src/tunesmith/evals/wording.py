"""What several sentences about evaluations have in common."""

from tunesmith.evals.statistics import LEAST_ROWS


def counted(count: int, noun: str) -> str:
    """The count and its noun: `1 row`, `2 rows`, `1,000 rows`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def too_few(conversations: int, rows: int = 0) -> str:
    """Why nothing is said of so few rows, or of rows of so few conversations."""
    seen = f"rows of {counted(conversations, 'conversation')}" if rows >= LEAST_ROWS else counted(conversations, "row")
    return f"too few rows to tell ({seen}; at least {LEAST_ROWS})"
