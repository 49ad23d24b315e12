"""`tunesmith migrate` and `tunesmith db move`. No server is needed."""

from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.exits import CommandError, Exit
from tunesmith.cli.options import AsJson, DataDir

if TYPE_CHECKING:
    from tunesmith.settings import Settings

SQLITE = "sqlite"

To = Annotated[
    str,
    typer.Argument(
        help="postgresql://user@host/name, or sqlite for the file in the data directory. A password: PGPASSWORD.",
        metavar="TO",
        show_default=False,
    ),
]
From = Annotated[
    str | None,
    typer.Option("--from", help="Where it is now, written alike. Default: the setting.", show_default=False),
]

app = typer.Typer(help="Move the database to PostgreSQL or back.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Move the database to PostgreSQL or back."""


def migrate(data_dir: DataDir = None) -> None:
    """Update the database to this version's schema.

    `serve` and `worker` do the same when they start.
    """
    from tunesmith.cli.local_store import open_local_store
    from tunesmith.cli.output.terminal import print_plain

    with open_local_store(data_dir):
        print_plain("The database has this version's schema.")


@app.command()
def move(to: To, source: From = None, as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Copy every row into an empty database, and compare them.

    Stop servers and workers first; jobs that are not done go on in the new database. The old one stays as it is.
    """
    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.output.terminal import note, print_json
    from tunesmith.cli.server.find import running_server

    settings = load_settings(data_dir)
    there, here = _named(settings, to), settings if source is None else _named(settings, source)
    running = running_server(settings)
    if running is not None:
        raise CommandError(f"A server runs on this data directory, at {running.base_url}. Stop it, then try again.")
    found = _moved(here, there)
    if as_json:
        print_json({"rows": sum(found.values()), "tables": {**found}})
        return
    where = "unset database_url" if to == SQLITE else f"set database_url = {to!r}"
    note(f"{sum(found.values()):,} rows in {len(found)} tables are there, and are the same. Now {where}, and start.")


def _named(settings: "Settings", name: str) -> "Settings":
    """The settings with that database. Raises CommandError for a name that is none."""
    if name == SQLITE:
        return settings.model_copy(update={"database_url": None})
    if not name.startswith(("postgresql://", "postgres://")):
        raise CommandError(
            f"{name!r} is no database: write postgresql://user@host/name, or {SQLITE} for the file in the data"
            " directory.",
            Exit.USAGE,
        )
    return settings.model_copy(update={"database_url": name})


def _moved(here: "Settings", there: "Settings") -> dict[str, int]:
    from tunesmith.cli.data_dir import secure_data_dir
    from tunesmith.cli.local_store import note
    from tunesmith.store.schema.db import Database, database_url
    from tunesmith.store.schema.move import move_database
    from tunesmith.system.audit import keep_audit_in

    secure_data_dir(here)
    old, new = Database(database_url(here)), Database(database_url(there))
    try:
        found = move_database(old, new)
    finally:
        old.close()
        new.close()
    keep_audit_in(here.paths.root)
    note("database.moved", "database", rows=sum(found.values()))
    return found
