"""Idempotency: the same request sent twice creates one object.

A client repeats a POST whose answer it never saw. It tells us in one of two ways: with an `Idempotency-Key`, which is
valid for a day; or, as the official client does without one, by sending the same body with the same API key within a
minute in a request that declares itself a retry. The record is committed together with the object.

Not covered: a retry that overtakes its first attempt, without an `Idempotency-Key`; that one creates a second object.
"""

import time
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal, TypeAlias

from sqlalchemy import ColumnElement, Connection, delete, insert, select

from tunesmith.errors import InvalidRequest
from tunesmith.store.schema.db import Database
from tunesmith.store.schema.tables import create_requests

Kind: TypeAlias = Literal["job", "file", "upload", "eval", "eval_run"]
RETRY_SECONDS = 60  # openai 3.x gives up after three attempts and some seconds
KEEP_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """One attempt to create an object.

    `fingerprint` is a hash of everything that decides the object.
    """

    kind: Kind
    project: str
    key_id: str
    fingerprint: str
    idempotency_key: str | None = None
    is_retry: bool = False

    @property
    def lock(self) -> int:
        """The same number for attempts that could be the same request.

        They are committed one after another.
        """
        name = "\0".join((self.kind, self.project, self.idempotency_key or f"{self.key_id}\0{self.fingerprint}"))
        return int.from_bytes(sha256(name.encode("utf-8", "surrogatepass")).digest()[:8], signed=True)


def find_earlier(database: Database, connection: Connection, request: CreateRequest) -> str | None:
    """Return the id of the object that an earlier attempt created, or None.

    Raises InvalidRequest when the Idempotency-Key was used for a different request.
    """
    database.advisory_lock(connection, request.lock)
    if request.idempotency_key is not None:
        return _under_key(connection, request)
    if not request.is_retry:
        return None
    query = select(create_requests.c.object_id).where(
        create_requests.c.key_id == request.key_id,
        create_requests.c.fingerprint == request.fingerprint,
        create_requests.c.kind == request.kind,
        create_requests.c.project == request.project,
        create_requests.c.created_at >= int(time.time()) - RETRY_SECONDS,
    )
    return connection.execute(query.order_by(create_requests.c.seq.desc()).limit(1)).scalar()


def remember_request(connection: Connection, request: CreateRequest, object_id: str) -> None:
    """Record that `request` created `object_id`.

    Replaces an older record of the same key, whose object is gone or whose day is over.
    """
    if request.idempotency_key is not None:
        connection.execute(delete(create_requests).where(*_same_key(request)))
    values = {name: getattr(request, name) for name in CreateRequest.__slots__ if name != "is_retry"}
    connection.execute(insert(create_requests).values(**values, object_id=object_id, created_at=int(time.time())))


def delete_old_requests(database: Database) -> int:
    """Delete records that are older than a day; return how many."""
    with database.write() as connection:
        old = delete(create_requests).where(create_requests.c.created_at < int(time.time()) - KEEP_SECONDS)
        return connection.execute(old).rowcount


def _under_key(connection: Connection, request: CreateRequest) -> str | None:
    query = select(create_requests.c.object_id, create_requests.c.fingerprint, create_requests.c.created_at)
    row = connection.execute(query.where(*_same_key(request))).one_or_none()
    if row is None or row.created_at < int(time.time()) - KEEP_SECONDS:
        return None
    if row.fingerprint != request.fingerprint:
        raise InvalidRequest(
            f"The Idempotency-Key {request.idempotency_key!r:.80} was used for another request, which made"
            f" {row.object_id}. Send a new key with a new request, and the old one only with the same.",
            code="idempotency_key_in_use",
        )
    return str(row.object_id)


def _same_key(request: CreateRequest) -> tuple[ColumnElement[bool], ...]:
    names = ("project", "kind", "idempotency_key")
    return tuple(create_requests.c[name] == getattr(request, name) for name in names)
