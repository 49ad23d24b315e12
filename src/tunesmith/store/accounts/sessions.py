"""Sessions of the dashboard: who is signed in.

They are in the database, for every server on it and across restarts.

A session is a random token in a cookie; its hash is stored beside the id of the key that signed in. It ends with that
key: each look-up asks whether the key is still valid. A link that signs in is a token of the same kind that works once.
A key has so many of both at most: the oldest ends when another begins.
"""

import time
from hashlib import sha256

from sqlalchemy import Connection, delete, exists, insert, select

from tunesmith.store.accounts.keys import active, key_row
from tunesmith.store.ids import base62
from tunesmith.store.rows import KeyRow
from tunesmith.store.schema.db import Database
from tunesmith.store.schema.tables import keys, projects, sessions

SESSION_SECONDS = 14 * 86_400
LINK_SECONDS = 300
MOST_SESSIONS, MOST_LINKS = 50, 10  # of a key
TOKEN_LENGTH = 43  # base62: 256 bits, so one round of SHA-256 cannot be searched


class SessionStore:
    """Who is signed in to the dashboard."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, key_id: str, *, one_time: bool = False) -> str:
        """Return the token of a new session, or of a link that makes one.

        It is stored nowhere. The key's oldest one ends, if it has too many.
        """
        token, now = base62(TOKEN_LENGTH), int(time.time())
        values = {
            "sha256": _hash(token),
            "key_id": key_id,
            "one_time": one_time,
            "created_at": now,
            "expires_at": now + (LINK_SECONDS if one_time else SESSION_SECONDS),
        }
        with self._database.write() as connection:
            _make_room(connection, key_id, one_time=one_time)
            connection.execute(insert(sessions).values(values))
        return token

    def find(self, token: str) -> KeyRow | None:
        """Return the key that signed in; None when the session or the key has ended."""
        archived = exists().where(projects.c.id == keys.c.project, projects.c.archived_at.is_not(None))
        query = select(keys).join(sessions, sessions.c.key_id == keys.c.id)
        query = query.where(sessions.c.sha256 == _hash(token), ~sessions.c.one_time, active(), ~archived)
        with self._database.read() as connection:
            row = connection.execute(query.where(sessions.c.expires_at > int(time.time()))).mappings().one_or_none()
        return None if row is None else key_row(row)

    def redeem(self, token: str) -> str | None:
        """Turn a link's token into that of a session.

        None when it was used before or has expired.
        """
        link = delete(sessions).where(sessions.c.sha256 == _hash(token), sessions.c.one_time)
        with self._database.write() as connection:
            row = connection.execute(link.returning(sessions.c.key_id, sessions.c.expires_at)).one_or_none()
        return None if row is None or row.expires_at <= int(time.time()) else self.create(row.key_id)

    def end(self, token: str) -> None:
        """End a session; one that has ended already is no error."""
        with self._database.write() as connection:
            connection.execute(delete(sessions).where(sessions.c.sha256 == _hash(token)))

    def expire(self) -> int:
        """Remove the sessions that have expired, and return how many."""
        old = delete(sessions).where(sessions.c.expires_at <= int(time.time()))
        with self._database.write() as connection:
            return connection.execute(old).rowcount


def _make_room(connection: Connection, key_id: str, *, one_time: bool) -> None:
    """End the key's oldest sessions or links, so that there is room for one more."""
    mine = (sessions.c.key_id == key_id, sessions.c.one_time == one_time)
    newest = select(sessions.c.sha256).where(*mine).order_by(sessions.c.created_at.desc())
    kept = newest.limit((MOST_LINKS if one_time else MOST_SESSIONS) - 1)
    connection.execute(delete(sessions).where(*mine, sessions.c.sha256.not_in(kept)))


def _hash(token: str) -> str:
    return sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
