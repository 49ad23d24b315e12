"""API keys.

Only a hash is stored. A key is 256 random bits, so one round of SHA-256 cannot be searched.
"""

import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, exists, insert, or_, select, update

from tunesmith.errors import ServerFault
from tunesmith.store.ids import API_KEY, new_api_key, new_key_id
from tunesmith.store.objects.pagination import Cursor, fetch_page
from tunesmith.store.rows import FIRST_PROJECT, KeyRow, Order, Page, Role
from tunesmith.store.schema.db import FIRST_KEY_KEY, Database
from tunesmith.store.schema.tables import keys, projects
from tunesmith.store.scope import EVERYBODY
from tunesmith.system.atomic_write import write_atomically

MOST_REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class _VerifiedKeys:
    """Keys by hash, as verified while the database was at `version`.

    Replaced as a whole, because threads share it.
    """

    version: int | None
    keys: Mapping[str, KeyRow]


class KeyStore:
    """All API keys of the installation."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._verified = _VerifiedKeys(None, {})

    def ensure_first(self, path: Path) -> str | None:
        """Make the first key of a new installation; None when there is a key already.

        The key is written to `path` (mode 0600) and returned, to be shown once. A file that is there already is not
        overwritten: its key becomes the first, as a first start that was killed has left it.
        """
        with self._database.write() as connection:
            self._database.advisory_lock(connection, FIRST_KEY_KEY)
            if connection.execute(select(keys.c.seq).limit(1)).first() is not None:
                return None
            raw_key = _key_in(path) or new_api_key()
            _insert(connection, raw_key, "first", FIRST_PROJECT, "owner")
            # before the commit, so that a stored key is never lost
            write_atomically(path, f"{raw_key}\n".encode(), private=True)
            return raw_key

    def create(
        self, name: str, *, project: str = FIRST_PROJECT, role: Role = "owner", expires_at: int | None = None
    ) -> tuple[str, KeyRow]:
        """Return the raw key, which is shown once and never stored, and its row."""
        raw_key = new_api_key()
        with self._database.write() as connection:
            return raw_key, _insert(connection, raw_key, name, project, role, expires_at)

    def verify(self, raw_key: str) -> KeyRow | None:
        """Return the key's row, or None when it must not be accepted.

        That is: unknown, revoked, expired, or of an archived project. Hashes are compared, so timing tells nothing
        about how much of a guess was right.
        """
        digest, version = _hash(raw_key), self._database.data_version.read()
        archived = exists().where(projects.c.id == keys.c.project, projects.c.archived_at.is_not(None))
        query = select(keys).where(keys.c.sha256 == digest, active(), ~archived)
        with self._database.read() as connection:
            row = connection.execute(query).mappings().one_or_none()
        if row is None or not hmac.compare_digest(row["sha256"], digest):
            return None
        key = key_row(row)
        self._remember(version, digest, key)
        return key

    def remembered(self, raw_key: str) -> KeyRow | None:
        """Return what `verify` last found, if that is certainly still true.

        None as soon as anything at all was written to the database since. Never waits.
        """
        verified, version = self._verified, self._database.data_version.read()
        if version is None or verified.version != version:
            return None
        key = verified.keys.get(_hash(raw_key))
        return None if key is None or (key.expires_at is not None and key.expires_at <= int(time.time())) else key

    def _remember(self, version: int | None, digest: str, key: KeyRow) -> None:
        """`version` was read before the database was asked."""
        if version is None:
            return
        same = self._verified.version == version and len(self._verified.keys) < MOST_REMEMBERED
        self._verified = _VerifiedKeys(version, {**self._verified.keys, digest: key} if same else {digest: key})

    def all(self) -> list[KeyRow]:
        """Return every key, revoked ones included, oldest first."""
        with self._database.read() as connection:
            return [key_row(row) for row in connection.execute(select(keys).order_by(keys.c.seq)).mappings()]

    def page(
        self,
        *,
        project: str | None = None,
        role: Role | None = None,
        limit: int = 20,
        after: str | None = None,
        order: Order = "desc",
    ) -> Page[KeyRow]:
        """Return a page of the valid keys of one project or one role."""
        query = select(keys).where(active())
        if project is not None:
            query = query.where(keys.c.project == project)
        if role is not None:
            query = query.where(keys.c.role == role)
        with self._database.read() as connection:
            rows, more = fetch_page(connection, query, keys, Cursor(limit, after, order), EVERYBODY)
        return Page(tuple(key_row(row) for row in rows), more)

    def get(self, key_id: str) -> KeyRow | None:
        """Return a valid key; None when it is unknown, revoked or expired."""
        with self._database.read() as connection:
            row = connection.execute(select(keys).where(keys.c.id == key_id, active())).mappings().one_or_none()
        return None if row is None else key_row(row)

    def revoke(self, key_id: str) -> bool:
        """Return False when there is no such key or it was revoked before."""
        change = update(keys).where(keys.c.id == key_id, keys.c.revoked_at.is_(None))
        with self._database.write() as connection:
            return connection.execute(change.values(revoked_at=int(time.time()))).rowcount > 0


def _key_in(path: Path) -> str | None:
    """The key in the file; None without one. Raises ServerFault where the file holds something else."""
    try:
        content = path.read_text("utf-8", "replace").strip()
    except FileNotFoundError:
        return None
    if content and not API_KEY.fullmatch(content):
        raise ServerFault(f"{path} should have the first API key, and holds something else. Move it away, then start.")
    return content or None


def active() -> ColumnElement[bool]:
    """The condition that a key is neither revoked nor expired."""
    fresh = or_(keys.c.expires_at.is_(None), keys.c.expires_at > int(time.time()))
    return and_(keys.c.revoked_at.is_(None), fresh)


def _insert(
    connection: Connection, raw_key: str, name: str, project: str, role: Role, expires_at: int | None = None
) -> KeyRow:
    values = {
        "id": new_key_id(),
        "name": name,
        "sha256": _hash(raw_key),
        "hint": raw_key[-4:],
        "project": project,
        "role": role,
        "created_at": int(time.time()),
        "expires_at": expires_at,
    }
    return key_row(connection.execute(insert(keys).values(values).returning(keys)).mappings().one())


def _hash(raw_key: str) -> str:
    return sha256(raw_key.encode("utf-8", "surrogatepass")).hexdigest()


def key_row(row: RowMapping) -> KeyRow:
    """A key as it stands in the database, without its hash."""
    return KeyRow(**{name: row[name] for name in KeyRow.__slots__})
