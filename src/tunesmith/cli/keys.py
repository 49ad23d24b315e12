"""`tunesmith keys …` and `tunesmith migrate`: the data directory itself, on the server's machine. No server needed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.exits import CommandError
from tunesmith.cli.options import AsJson, DataDir

if TYPE_CHECKING:
    from tunesmith.store import KeyRow, Store

app = typer.Typer(help="List, create and revoke API keys.", no_args_is_help=True)


@app.command("list")
def list_keys(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """List the API keys; their secrets are not kept."""
    from tunesmith.cli.terminal import ago, listing, note, out, print_json

    store = _open(data_dir)
    keys = store.keys.all()
    store.close()
    if as_json:
        print_json([_key_json(key) for key in keys])
        return
    if not keys:
        note("No keys yet. Make one: tunesmith keys create NAME")
        return
    table = listing("id", "name", "ends in", "created", "state")
    for key in keys:
        state = "active" if key.revoked_at is None else f"[dim]revoked {ago(key.revoked_at)}[/dim]"
        table.add_row(key.id, key.name, f"…{key.hint}", ago(key.created_at), state)
    out().print(table)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.", metavar="NAME", show_default=False)],
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Make an API key and print it. It is shown this once."""
    from tunesmith.cli.terminal import note, print_json, print_plain

    if not name.strip():
        raise CommandError("The key's name is empty; say what the key is for: tunesmith keys create laptop")
    store = _open(data_dir)
    _ensure_local_key(store, data_dir)
    raw_key, row = store.keys.create(name.strip())
    store.close()
    if as_json:
        print_json({**_key_json(row), "key": raw_key})
    else:
        print_plain(raw_key)
        note(f"Key {row.id} ({row.name}). Keep it: it cannot be shown again.")


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="Id of the key, from `keys list`.", metavar="KEY", show_default=False)],
    data_dir: DataDir = None,
) -> None:
    """Switch a key off, from the next request on."""
    from tunesmith.cli.terminal import print_plain

    store = _open(data_dir)
    done = store.keys.revoke(key_id)
    store.close()
    if not done:
        raise CommandError(f"There is no active key with the id {key_id!r}. See: tunesmith keys list")
    print_plain(f"{key_id} is revoked.")


def migrate(data_dir: DataDir = None) -> None:
    """Bring the database to this version's schema. `serve` and `worker` do the same when they start."""
    from tunesmith.cli.terminal import print_plain

    store = _open(data_dir)
    store.close()
    print_plain("The database has this version's schema.")


def _open(data_dir: Path | None) -> "Store":
    from tunesmith.cli.configure import load_settings
    from tunesmith.store import open_store

    return open_store(load_settings(data_dir))


def _ensure_local_key(store: "Store", data_dir: Path | None) -> None:
    """The first key is always the one in the data directory's file, which our own commands read."""
    from tunesmith.cli.configure import load_settings

    store.keys.ensure_first(load_settings(data_dir).paths.api_key_file)


def _key_json(key: "KeyRow") -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "hint": key.hint,
        "project": key.project,
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
    }
