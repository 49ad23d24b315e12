"""Whether the database that a data directory's files belong to is there.

Without it they are not taken for a new installation. A database that was removed or emptied, or a wrong `database_url`,
would otherwise look like a first start, which makes a new API key, and keys, jobs and models would be gone silently.
"""

from pathlib import Path

from sqlalchemy import exc, inspect, select

from tunesmith.data_paths import Paths
from tunesmith.errors import ServerFault
from tunesmith.store.ids import FILE_ID
from tunesmith.store.objects.blobs import PARTIAL, UNCLAIMED
from tunesmith.store.schema.db import Database
from tunesmith.store.schema.tables import files, jobs, keys


def require_own_database(database: Database, paths: Paths) -> None:
    """Raises ServerFault if an installation's files are here and its database is not.

    The files are looked at first: whoever starts at the same time makes the database before them.
    """
    found, has_objects = _files_of_an_installation(paths)
    if not found:
        return
    lack = _what_is_wrong(database, has_objects=has_objects)
    if lack is not None:
        raise ServerFault(
            f"{paths.root} has the files of an installation ({', '.join(found)}), but {_name(database)} {lack}."
            " Nothing was changed. If the setting database_url is wrong, correct it; if the database is lost, restore"
            f" it from a backup (docs/operating.md). To begin anew, choose another data directory, or move the files"
            " away first."
        )


def _files_of_an_installation(paths: Paths) -> tuple[list[str], bool]:
    """What is there, in words; and whether there are files or jobs, not only a key."""
    blobs = sum(_is_kept(path) for path in _entries(paths.blobs))
    folders = sum(path.is_dir() and any(path.iterdir()) for path in _entries(paths.jobs))
    found = [paths.api_key_file.name] if _has_content(paths.api_key_file) else []
    kinds = ((blobs, "file", "files/"), (folders, "job", "jobs/"))
    found += [f"{count} {noun}{'s' * (count > 1)} in {place}" for count, noun, place in kinds if count]
    return found, bool(blobs or folders)


def _is_kept(path: Path) -> bool:
    """Whether it is a file's bytes, and not one that a crash left behind."""
    return bool(FILE_ID.fullmatch(path.name)) and not (path.parent / PARTIAL / f"{path.name}{UNCLAIMED}").exists()


def _what_is_wrong(database: Database, *, has_objects: bool) -> str | None:
    path = database.file
    if path is not None and not path.exists():
        return "is not there"
    if path is not None and not _has_content(path):
        return "is empty"
    try:
        with database.read() as connection:
            if not inspect(connection).has_table(keys.name):
                return "has none of Tunesmith's tables"
            rows = (connection.execute(select(table.c.seq).limit(1)).first() for table in (keys, jobs, files))
            # A first start that was killed has written its key, and not yet committed it.
            return "has no keys, files or jobs" if has_objects and not any(rows) else None
    except exc.DatabaseError as error:
        return f"cannot be read ({error.__cause__ or error})"


def _name(database: Database) -> str:
    return f"its database {database.file}" if database.file else "the PostgreSQL database of database_url"


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0
