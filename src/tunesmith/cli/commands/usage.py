"""`tunesmith usage`: requests and tokens by project, key and model."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.exits import CommandError
from tunesmith.cli.local_store import open_local_store
from tunesmith.cli.options import AsJson, DataDir

if TYPE_CHECKING:
    from tunesmith.estimate.prices import Price
    from tunesmith.store.accounts.usage import Group, UsageRow
    from tunesmith.store.rows import Counts

DAY = 86_400
ALL_TIME = 100_000 * DAY  # one bucket for everything


def usage(
    days: Annotated[int, typer.Option(help="How many days to sum, today included (UTC).", min=1, max=36_500)] = 30,
    by: Annotated[
        str, typer.Option(help="Columns to sum by, separated by commas: day, project, key, model.")
    ] = "project,key,model",
    price: Annotated[
        str,
        typer.Option(help="Model whose prices the last column uses: gpt-3.5-turbo, davinci-002 or babbage-002 (2023)."),
    ] = "gpt-3.5-turbo",
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Show requests and tokens by project, key and model.

    The last column is what they would have cost at OpenAI. No server is needed.
    """
    from tunesmith.cli.output.terminal import note, print_json

    columns, table_price, now = _columns(by), _price(price), int(time.time())
    groups: list[Group] = [group for column, group in _groups().items() if column in columns and group is not None]
    start, width = now - now % DAY - (days - 1) * DAY, DAY if "day" in columns else ALL_TIME
    with open_local_store(data_dir) as store:
        rows = store.usage.sums(start, now + 1, width, group_by=groups)
        names = {key.id: key.name for key in store.keys.all()}
    if as_json:
        print_json([_json(row, columns, table_price) for row in rows])
    elif not rows:
        note(f"Nothing was asked or trained in the last {days} days.")
    else:
        _print(rows, columns, names, table_price)


def cost(counts: "Counts", price: "Price") -> float:
    """What the tokens would cost, in dollars."""
    inference = counts.prompt_tokens * price.input + counts.completion_tokens * price.output
    return (inference + counts.trained_tokens * price.training) / 1000


def _groups() -> "dict[str, Group | None]":
    return {"day": None, "project": "project", "key": "key_id", "model": "model"}


def _columns(by: str) -> list[str]:
    chosen = [name.strip() for name in by.split(",") if name.strip()]
    for name in chosen:
        if name not in _groups():
            raise CommandError(f"--by has {name!r}: use some of {', '.join(_groups())}.")
    return [name for name in _groups() if name in chosen]


def _price(name: str) -> "Price":
    from tunesmith.estimate.prices import OPENAI_2023, price_of

    found = price_of(name)
    if found is None:
        raise CommandError(f"There is no price of {name!r} in the table. Known: {', '.join(OPENAI_2023)}.")
    return found


def _cells(row: "UsageRow", columns: list[str]) -> dict[str, str | None]:
    day = time.strftime("%Y-%m-%d", time.gmtime(row.start))
    cells = {"day": day, "project": row.project, "key": row.key_id, "model": row.model}
    return {name: cells[name] for name in columns}


def _print(rows: "list[UsageRow]", columns: list[str], names: dict[str, str], price: "Price") -> None:
    from rich.markup import escape

    from tunesmith.cli.output.terminal import listing, note, out
    from tunesmith.estimate.prices import dollars
    from tunesmith.store.rows import Counts

    numbers = ("requests", "prompt", "cached", "completion", "trained", "cost at OpenAI")
    table = listing(*columns, *numbers, numbers=len(numbers))
    for row in rows:
        cells = _cells(row, columns)
        if "key" in cells:
            cells["key"] = names.get(cells["key"] or "", cells["key"] or "unknown")
        table.add_row(
            *(escape(cell or "") for cell in cells.values()), *_numbers(row.counts), dollars(cost(row.counts, price))
        )
    total = sum((row.counts for row in rows), Counts())
    if columns and len(rows) > 1:
        blanks = [""] * (len(columns) - 1)
        table.add_row("[dim]all[/dim]", *blanks, *_numbers(total), dollars(cost(total, price)))
    out().print(table)
    note(f"Tokens are counted by the base models here; prices are those of tuned {price.model} models ({price.table}).")


def _numbers(counts: "Counts") -> list[str]:
    values = (counts.requests, counts.prompt_tokens, counts.cached_tokens, counts.completion_tokens)
    return [f"{value:,}" for value in (*values, counts.trained_tokens)]


def _json(row: "UsageRow", columns: list[str], price: "Price") -> dict[str, object]:
    from tunesmith.store.rows import COUNTERS

    counted = {name: getattr(row.counts, name) for name in COUNTERS}
    return {**_cells(row, columns), **counted, "cost_at_openai_usd": round(cost(row.counts, price), 6)}
