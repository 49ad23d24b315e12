"""The options about money, and the prices that they name."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from tunesmith.cli.exits import CommandError, Exit

if TYPE_CHECKING:
    from tunesmith.estimate.price_file import PriceBook
    from tunesmith.estimate.prices import Price
    from tunesmith.settings import Settings

PriceFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="Your own prices and your machine's, as JSON or TOML (docs/prices.md). Default: the setting price_file.",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class MachineOptions:
    """What this machine costs its owner; each comes before the price file's."""

    hourly_cost: Annotated[
        float | None,
        typer.Option(min=0, help="What an hour of this machine costs, in dollars, besides power.", show_default=False),
    ] = None
    watts: Annotated[
        float | None, typer.Option(min=0, help="What this machine draws while it trains, watts.", show_default=False)
    ] = None
    kwh_price: Annotated[
        float | None, typer.Option(min=0, help="Price of a kilowatt hour, in dollars.", show_default=False)
    ] = None


def price_book(file: Path | None, settings: "Settings") -> "PriceBook":
    """The prices of the file, or of the one that the setting `price_file` names.

    Raises CommandError for a file with a fault.
    """
    from tunesmith.errors import InvalidRequest
    from tunesmith.estimate.price_file import read_price_book

    path = file or settings.price_file
    try:
        return read_price_book(path.expanduser() if path else None)
    except InvalidRequest as error:
        raise CommandError(error.message, Exit.USAGE) from None


def require_price(model: str, book: "PriceBook") -> "Price":
    """The price of a model; CommandError that lists the known ones."""
    from tunesmith.errors import InvalidRequest

    try:
        return book.require(model)
    except InvalidRequest as error:
        raise CommandError(error.message, Exit.USAGE) from None


def hourly_cost(options: MachineOptions, book: "PriceBook") -> float | None:
    """Dollars for an hour of this machine, power included; None where it is not known."""
    from tunesmith.errors import InvalidRequest
    from tunesmith.estimate.price_file import MachineCost

    ours, theirs = options, book.machine
    cost = MachineCost(
        theirs.dollars_per_hour if ours.hourly_cost is None else ours.hourly_cost,
        theirs.watts if ours.watts is None else ours.watts,
        theirs.dollars_per_kwh if ours.kwh_price is None else ours.kwh_price,
    )
    try:
        return cost.hourly()
    except InvalidRequest as error:
        cure = "give both --watts and --kwh-price, or neither"
        if ours.watts is None and ours.kwh_price is None:  # so the price file has one of them
            option = "--watts" if error.param == "machine.watts" else "--kwh-price"
            cure = f"add the key {error.param} to {book.file}, or give {option}"
        raise CommandError(f"{error.message}: {cure}.", Exit.USAGE) from None
