"""How usage looks in a terminal.

A table, or one line below the other where a table would break names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table

from tunesmith.cli.output.terminal import facts, listing, out
from tunesmith.estimate.prices import dollar_column
from tunesmith.store.rows import Counts

NUMBERS = ("requests", "prompt", "cached", "completion", "trained", "cost at OpenAI")


@dataclass(frozen=True, slots=True)
class UsageLine:
    """A line of usage, by names of what is summed; `dollars` is None if not known."""

    names: Mapping[str, str]
    counts: Counts
    dollars: float | None


def print_usage(columns: Sequence[str], lines: Sequence[UsageLine]) -> None:
    """Prints the lines; names and numbers stay whole at any width."""
    costs = dollar_column([line.dollars for line in lines])
    numbers = [[*_counted(line.counts), cost] for line, cost in zip(lines, costs, strict=True)]
    console = out()
    table = _table(columns, lines, numbers)
    if console.measure(table).maximum <= console.width:
        console.print(table)
        return
    for line, values in zip(lines, numbers, strict=True):
        names = [line.names[column] for column in columns if line.names[column]]
        console.print(f"[bold]{escape(' '.join(names)) or 'all'}[/bold]", soft_wrap=True)
        console.print(facts(dict(zip(NUMBERS, values, strict=True))), crop=False)


def _table(columns: Sequence[str], lines: Sequence[UsageLine], numbers: list[list[str]]) -> Table:
    table = listing(*columns, *NUMBERS, numbers=len(NUMBERS))
    for column in table.columns:
        column.no_wrap = True
    for line, values in zip(lines, numbers, strict=True):
        table.add_row(*(escape(line.names[column]) for column in columns), *values)
    return table


def _counted(counts: Counts) -> list[str]:
    values = (counts.requests, counts.prompt_tokens, counts.cached_tokens, counts.completion_tokens)
    return [f"{value:,}" for value in (*values, counts.trained_tokens)]
