"""`tunesmith usage`: requests and tokens by project, key and model."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.exits import CommandError, Exit
from tunesmith.cli.local_store import open_local_store
from tunesmith.cli.options import AsJson, DataDir
from tunesmith.cli.prices import PriceFile, price_book, require_price
from tunesmith.cli.signature import takes

if TYPE_CHECKING:
    from tunesmith.estimate.prices import Price
    from tunesmith.store.accounts.usage import Group, UsageRow

DAY = 86_400
ALL_TIME = 100_000 * DAY  # one bucket for everything


@dataclass(frozen=True, slots=True)
class UsageOptions:
    """The options of `tunesmith usage`."""

    days: Annotated[int, typer.Option(help="How many days to sum, today included (UTC).", min=1, max=36_500)] = 30
    by: Annotated[str, typer.Option(help="Columns to sum by, separated by commas: day, project, key, model.")] = (
        "project,key,model"
    )
    price: Annotated[str, typer.Option(help="OpenAI model whose prices the last column uses, such as gpt-4o-mini.")] = (
        "gpt-3.5-turbo"
    )
    price_file: PriceFile = None
    as_json: AsJson = False
    data_dir: DataDir = None


@takes(UsageOptions)
def usage(options: UsageOptions) -> None:
    """Show requests and tokens by project, key and model.

    The last column is what they would have cost at OpenAI. No server is needed.
    """
    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.output.terminal import note, print_json

    columns, now = _columns(options.by), int(time.time())
    price = require_price(options.price, price_book(options.price_file, load_settings(options.data_dir)))
    groups: list[Group] = [group for column, group in _groups().items() if column in columns and group is not None]
    start, width = now - now % DAY - (options.days - 1) * DAY, DAY if "day" in columns else ALL_TIME
    with open_local_store(options.data_dir) as store:
        rows = store.usage.sums(start, now + 1, width, group_by=groups)
        names = {key.id: key.name for key in store.keys.all()}
    if options.as_json:
        print_json([_json(row, columns, price) for row in rows])
    elif not rows:
        note(f"Nothing was asked or trained in the last {options.days} days.")
    else:
        _print(rows, columns, names, price)


def _groups() -> "dict[str, Group | None]":
    return {"day": None, "project": "project", "key": "key_id", "model": "model"}


def _columns(by: str) -> list[str]:
    chosen = [name.strip() for name in by.split(",") if name.strip()]
    for name in chosen:
        if name not in _groups():
            raise CommandError(f"--by has {name!r}: use some of {', '.join(_groups())}.", Exit.USAGE)
    return [name for name in _groups() if name in chosen]


def _cells(row: "UsageRow", columns: list[str]) -> dict[str, str | None]:
    day = time.strftime("%Y-%m-%d", time.gmtime(row.start))
    cells = {"day": day, "project": row.project, "key": row.key_id, "model": row.model}
    return {name: cells[name] for name in columns}


def _print(rows: "list[UsageRow]", columns: list[str], names: dict[str, str], price: "Price") -> None:
    from tunesmith.cli.output.terminal import note
    from tunesmith.cli.output.usage_table import UsageLine, print_usage
    from tunesmith.estimate.prices import usage_cost
    from tunesmith.store.rows import Counts

    lines = []
    for row in rows:
        cells = {name: cell or "" for name, cell in _cells(row, columns).items()}
        if "key" in cells:
            cells["key"] = names.get(cells["key"], cells["key"] or "unknown")
        lines.append(UsageLine(cells, row.counts, usage_cost(price, row.counts)))
    if columns and len(rows) > 1:
        total = sum((row.counts for row in rows), Counts())
        blanks = dict.fromkeys(columns, "")
        lines.append(UsageLine({**blanks, columns[0]: "all"}, total, usage_cost(price, total)))
    print_usage(columns, lines)
    note(f"Tokens are counted by the base models here; prices are those of tuned {price.model} models ({price.table}).")


def _json(row: "UsageRow", columns: list[str], price: "Price") -> dict[str, object]:
    from tunesmith.estimate.prices import usage_cost
    from tunesmith.store.rows import COUNTERS

    counted = {name: getattr(row.counts, name) for name in COUNTERS}
    amount = usage_cost(price, row.counts)
    return {**_cells(row, columns), **counted, "cost_at_openai_usd": None if amount is None else round(amount, 6)}
