"""What the commands print with: consoles, JSON, and numbers as people read them.

Results go to stdout, everything about how they come (progress, notes, errors) to stderr, so that pipes stay clean.
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

PIPE_COLUMNS = 200  # lines that a script reads are not folded at the 80 of a terminal that is not there


@cache
def out() -> Console:
    folded = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(highlight=False, width=None if folded else PIPE_COLUMNS)


@cache
def err() -> Console:
    return Console(stderr=True, highlight=False)


def note(text: str) -> None:
    """A remark beside the result."""
    err().print(f"[dim]{escape(text)}[/dim]", soft_wrap=True)


def warn(text: str) -> None:
    err().print(f"[yellow]warning:[/yellow] {escape(text)}", soft_wrap=True)


def print_json(value: object, *, indent: int | None = 2) -> None:
    """JSON on stdout; `indent=None`: one line, for streams of objects."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=indent) + "\n")
    sys.stdout.flush()


def print_plain(text: str) -> None:
    """Text exactly as it is: no wrapping, no markup. For what is copied or piped."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def facts(values: Mapping[str, str]) -> Table:
    """Name and value in two columns; values may carry markup."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in values.items():
        grid.add_row(name, value)
    return grid


def listing(*columns: str) -> Table:
    """A table without lines, whose first column is never broken (it holds what people copy)."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, no_wrap=index == 0, overflow="fold")
    return table


def duration(seconds: float) -> str:
    """`7s`, `2m05s`, `1h02m`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def size(count: int) -> str:
    """`2.4 kB`, `98.1 MB`."""
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def ago(unix_time: int) -> str:
    """`3m05s ago`, and the date when it is days."""
    seconds = time.time() - unix_time
    if seconds < 48 * 3600:
        return f"{duration(seconds)} ago"
    return time.strftime("%Y-%m-%d", time.localtime(unix_time))
