"""The store of a data directory, opened by a command without a server."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.cli.exits import CommandError

if TYPE_CHECKING:
    from tunesmith.jsonvalue import JsonValue
    from tunesmith.settings import Settings
    from tunesmith.store import ProjectRow, Store


@contextmanager
def open_local_store(data_dir: Path | None) -> "Iterator[Store]":
    """Opens the store of the data directory until the block ends."""
    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.data_dir import secure_data_dir
    from tunesmith.store import open_store
    from tunesmith.system.audit import keep_audit_in

    settings = load_settings(data_dir)
    secure_data_dir(settings)
    store = open_store(settings)
    keep_audit_in(settings.paths.root)
    try:
        yield store
    finally:
        store.close()


def open_with_first_key(settings: "Settings") -> "tuple[Store, str | None]":
    """The store, and at the very first start the API key, to be shown once.

    The directory must be there. The caller closes the store.
    """
    from tunesmith.store import open_store
    from tunesmith.system.audit import keep_audit_in, note_change, this_user

    store = open_store(settings)
    keep_audit_in(settings.paths.root)
    try:
        first = store.keys.ensure_first(settings.paths.api_key_file)
        if first is not None:
            note_change("key.created", "first", who=this_user(), where="first start", role="owner", hint=first[-4:])
        return store, first
    except BaseException:
        store.close()
        raise


def note(deed: str, what: str, **details: "JsonValue") -> None:
    """Writes what a command has changed into the audit log."""
    from tunesmith.system.audit import note_change, this_user

    note_change(deed, what, who=this_user(), where="command line", **details)


def find_project(store: "Store", project: str) -> "ProjectRow":
    """The active project with this id or name.

    Raises CommandError when there is none, or when several have the name.
    """
    found = store.projects.named(project)
    exact = [row for row in found if row.id == project] or found
    if not exact:
        raise CommandError(f"There is no active project {project!r}. See: tunesmith projects list")
    if len(exact) > 1:
        ids = ", ".join(row.id for row in exact)
        raise CommandError(f"{len(exact)} projects are called {project!r}; use one of their ids: {ids}")
    return exact[0]
