"""`tunesmith keys …`: the API keys of a data directory. No server is needed."""

import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.exits import CommandError
from tunesmith.cli.local_store import find_project, open_local_store
from tunesmith.cli.local_store import note as audit
from tunesmith.cli.options import AsJson, DataDir, named

if TYPE_CHECKING:
    from tunesmith.store import KeyRow, Role, Store

app = typer.Typer(help="List, create and revoke API keys.", no_args_is_help=True)

ROLES: "tuple[Role, ...]" = ("owner", "member", "read-only")


@app.command("list")
def list_keys(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """List the API keys, without their secrets, which are not stored."""
    from rich.markup import escape

    from tunesmith.cli.output.terminal import ago, listing, note, print_json, print_table

    with open_local_store(data_dir) as store:
        keys = store.keys.all()
    if as_json:
        print_json([_key_json(key) for key in keys])
        return
    if not keys:
        note("No keys yet. Make one: tunesmith keys create NAME")
        return
    table = listing("id", "name", "ends in", "project", "role", "created", "state")
    for key in keys:
        table.add_row(key.id, escape(key.name), f"…{key.hint}", key.project, key.role, ago(key.created_at), _state(key))
    print_table(table)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.", metavar="NAME", show_default=False)],
    project: Annotated[str, typer.Option(help="Id or name of the project the key gives access to.")] = "default",
    role: Annotated[
        str, typer.Option(help="owner (everything, in all projects), member, or read-only (view, and use models).")
    ] = "member",
    expires: Annotated[
        str | None,
        typer.Option(help="When it expires: 12h, 30d or 2027-01-31 (UTC). Default: never.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Create an API key and print it. It is shown only this once."""
    from tunesmith.cli.output.terminal import note, print_json, print_plain

    if not name.strip():
        raise CommandError("The key's name is empty; name what it is for: tunesmith keys create laptop")
    chosen, expires_at = _role(role), None if expires is None else expiry(expires, time.time())
    with open_local_store(data_dir) as store:
        _ensure_local_key(store, data_dir)
        where = find_project(store, project)
        raw_key, row = store.keys.create(name.strip(), project=where.id, role=chosen, expires_at=expires_at)
        audit("key.created", row.id, name=row.name, role=row.role, project=row.project, hint=row.hint)
    if as_json:
        print_json({**_key_json(row), "key": raw_key})
    else:
        print_plain(raw_key)
        note(f"Key {row.id} ({row.name}, {row.role} in {where.name}). Keep it: it cannot be shown again.")


@app.command()
def revoke(
    key_id: Annotated[
        str, typer.Argument(help="Id of the key, from `keys list`.", metavar="KEY", show_default=False, callback=named)
    ],
    data_dir: DataDir = None,
) -> None:
    """Revoke a key; its next request is refused."""
    from tunesmith.cli.output.terminal import print_plain

    with open_local_store(data_dir) as store:
        done = store.keys.revoke(key_id)
    if done:
        audit("key.revoked", key_id)
    else:
        raise CommandError(f"There is no active key with the id {key_id!r}. See: tunesmith keys list")
    print_plain(f"{key_id} is revoked.")


def expiry(text: str, now: float) -> int:
    """Reads `12h`, `30d` or a date (its first second, UTC) as Unix seconds.

    Raises CommandError for anything else, and for a date in the past.
    """
    if match := re.fullmatch(r"([0-9]{1,6})([hd])", text):
        return int(now) + int(match[1]) * (3600 if match[2] == "h" else 86400)
    try:
        when = int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp())
    except ValueError:
        raise CommandError(f"--expires is {text!r}: give hours (12h), days (30d) or a date (2027-01-31).") from None
    if when <= now:
        raise CommandError(f"--expires is {text!r}, which is not in the future (dates begin at midnight, UTC).")
    return when


def _role(role: str) -> "Role":
    for known in ROLES:
        if role == known:
            return known
    raise CommandError(f"--role is {role!r}: give one of {', '.join(ROLES)}.")


def _state(key: "KeyRow") -> str:
    from tunesmith.cli.output.terminal import ago

    if key.revoked_at is not None:
        return f"[dim]revoked {ago(key.revoked_at)}[/dim]"
    if key.expires_at is None:
        return "active"
    if key.expires_at <= time.time():
        return f"[dim]expired {ago(key.expires_at)}[/dim]"
    return f"until {time.strftime('%Y-%m-%d %H:%M', time.gmtime(key.expires_at))} UTC"


def _ensure_local_key(store: "Store", data_dir: Path | None) -> None:
    """Makes the first key the one in the data directory, which the commands read."""
    from tunesmith.cli.configure import load_settings

    if store.keys.ensure_first(load_settings(data_dir).paths.api_key_file) is not None:
        audit("key.created", "first", role="owner")


def _key_json(key: "KeyRow") -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "hint": key.hint,
        "project": key.project,
        "role": key.role,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "last_used_at": key.last_used_at,
        "revoked_at": key.revoked_at,
    }
