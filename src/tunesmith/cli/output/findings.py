"""Findings as a list: where, what is wrong and how to fix it."""

from collections.abc import Mapping

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from tunesmith.cli.output.terminal import out
from tunesmith.rows.findings import LISTED, Finding, Group, grouped


def print_findings(
    title: str,
    findings: tuple[Finding, ...],
    count: int,
    limit: int,
    *,
    counts: Mapping[str, int] | None = None,
    more: str = "",
) -> None:
    """Prints at most `limit` entries; lines with the same fault share one.

    `count` is how many findings there are in all, of which `findings` may be the first; `counts` has them by code.
    `more` says how to see the others, `{}` in it is their number.
    """
    if not count:
        return
    colour = "red" if title.startswith("errors") else "yellow"
    shown = grouped(findings, counts)[:limit]
    console = out()
    console.print(f"\n[{colour}]{title}[/{colour}]")
    console.print(_table(shown))
    hidden = count - sum(group.total for group in shown)
    if hidden > 0:
        how = f" ({more.format(min(count, LISTED))})" if more else ""
        console.print(f"  [dim]and {hidden:,} more{escape(how)}[/dim]")


def _table(shown: list[Group]) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(min_width=2)
    table.add_column(max_width=14)
    for group in shown:
        one = group.first
        path = f"{group.path}: " if group.path else ""
        table.add_row("", Text(group.where, "bold"), Text.assemble(path, f"{one.text} ", (one.fix, "dim")))
    return table
