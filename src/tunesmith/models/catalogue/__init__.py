"""Bases that people tune, with what is said of them in `bases.toml`.

Each figure names its source; what no source says is None. Nothing here is a base before `tunesmith models add`.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("bases.toml")


@dataclass(frozen=True, slots=True)
class Figure:
    """A value with the address that says so."""

    value: float | str
    source: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A base: `parameters` in billions, `context` in tokens, `rate` for a LoRA.

    None where no source was found.
    """

    name: str
    hub: str
    parameters: Figure | None = None
    context: Figure | None = None
    licence: Figure | None = None
    rate: Figure | None = None


@cache
def catalogue() -> dict[str, Entry]:
    """The entries by the name that `tunesmith models add` takes."""
    book = tomllib.loads(FILE.read_text("utf-8"))
    return {name: _entry(name, table, book["sources"]) for name, table in book["bases"].items()}


def entry_of(repository: str) -> Entry | None:
    """The entry of a repository on the hub."""
    return next((entry for entry in catalogue().values() if entry.hub.lower() == repository.lower()), None)


def _entry(name: str, table: dict[str, str | dict[str, str]], sources: dict[str, str]) -> Entry:
    figures = {
        field: Figure(given["value"], "/".join([sources[given["source"]], *filter(None, [given.get("recipe")])]))
        for field, given in table.items()
        if isinstance(given, dict)
    }
    return Entry(name, str(table["hub"]), **figures)
