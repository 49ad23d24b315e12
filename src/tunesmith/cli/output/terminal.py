"""How the commands print: consoles, JSON, tables, and numbers as people read them.

Results go to stdout; progress, notes and errors go to stderr, so that output can be piped.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from functools import cache

from rich.console import Console
from rich.markup import escape
from rich.table import Table

PIPE_COLUMNS = 200  # output to a pipe is not folded at the 80 columns of a terminal that is not there


@cache
def out() -> Console:
    """The console of results: stdout."""
    folded = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(highlight=False, emoji=False, width=None if folded else PIPE_COLUMNS)


@cache
def err() -> Console:
    """The console of progress, notes and errors: stderr."""
    return Console(stderr=True, highlight=False, emoji=False)  # `ft:base:acme:fire:x` is a name


def note(text: str) -> None:
    """Prints a dim remark on stderr."""
    err().print(f"[dim]{escape(text)}[/dim]", soft_wrap=True)


def warn(text: str) -> None:
    """Prints a warning on stderr."""
    err().print(f"[yellow]warning:[/yellow] {escape(text)}", soft_wrap=True)


def print_json(value: object, *, indent: int | None = 2) -> None:
    """Prints JSON on stdout, on one line with `indent=None` (for streams of objects)."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=indent) + "\n")
    sys.stdout.flush()


def print_plain(text: str) -> None:
    """Prints text unwrapped and without markup, for what is copied or piped."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def facts(values: Mapping[str, str]) -> Table:
    """A table of names and values in two columns; values may carry markup."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in values.items():
        grid.add_row(name, value)
    return grid


def listing(*columns: str, numbers: int = 0) -> Table:
    """A table without lines, whose last `numbers` columns are aligned to the right.

    The first column is never broken over lines: it holds what people copy.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(
            column,
            no_wrap=index == 0,
            overflow="fold",
            justify="right" if index >= len(columns) - numbers else "left",
        )
    return table


def not_here(base: str) -> str:
    """Says, with markup, how to get the missing weights of the base model `base`."""
    return f"[dim]{base} is not here to count: tunesmith models pull {base}[/dim]"


def plural(count: int, noun: str) -> str:
    """The count and its noun in words: `1 row`, `1,200 rows`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def percentages(shares: Mapping[str, float]) -> dict[str, int]:
    """Whole percentages of the shares, which sum to 100 (largest remainder)."""
    total = sum(shares.values())
    exact = {name: share / total * 100 if total else 0.0 for name, share in shares.items()}
    found = {name: int(percent + 1e-9) for name, percent in exact.items()}
    left = sorted(exact, key=lambda name: found[name] - exact[name])[: 100 - sum(found.values()) if total else 0]
    return {name: percent + (name in left) for name, percent in found.items()}


def duration(seconds: float) -> str:
    """Formats seconds as `7s`, `2m05s` or `1h02m`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def size(count: int) -> str:
    """Formats bytes as `2.4 kB` or `98.1 MB`."""
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB"):
        if round(value, 1) < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def ago(unix_time: int) -> str:
    """Formats a Unix time as `3m05s ago`, or as its date after two days."""
    seconds = time.time() - unix_time
    if seconds < 48 * 3600:
        return f"{duration(seconds)} ago"
    return time.strftime("%Y-%m-%d", time.localtime(unix_time))
