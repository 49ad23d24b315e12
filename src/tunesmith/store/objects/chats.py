"""Chat completions that were asked to be stored, with their messages."""

import json
import time
from collections.abc import Sequence
from itertools import accumulate

from sqlalchemy import ColumnElement, Connection, RowMapping, delete, exists, func, insert, or_, select, update

from tunesmith.store.objects.pagination import Cursor, fetch_page
from tunesmith.store.rows import ChatRow, Order, Page
from tunesmith.store.schema.db import Database
from tunesmith.store.schema.tables import chat_metadata, chats, clean_text
from tunesmith.store.scope import Scope

PAGE_BYTES = 8 * 1024 * 1024  # reading and writing a page takes a tenth of a second, and others wait meanwhile


class ChatStore:
    """Stored chat completions."""

    def __init__(self, database: Database, scope: Scope) -> None:
        self._database = database
        self._scope = scope

    def within(self, scope: Scope) -> "ChatStore":
        """The same store, limited to `scope`."""
        return ChatStore(self._database, scope)

    def add(self, chat: ChatRow) -> None:
        """Store a completion."""
        values = {name: getattr(chat, name) for name in ChatRow.__slots__}
        values["messages"] = list(chat.messages)
        values["bytes"] = sum(len(json.dumps(values[name])) for name in ("body", "messages"))
        with self._database.write() as connection:
            connection.execute(insert(chats).values(values))
            _set_pairs(connection, chat.id, chat.metadata)

    def count(self) -> int:
        """Return how many completions are stored."""
        query = select(func.count()).where(self._scope.of(chats), chats.c.deleted_at.is_(None))
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def get(self, chat_id: str) -> ChatRow | None:
        """Return a completion; None when it is unknown or deleted."""
        with self._database.read() as connection:
            row = connection.execute(select(chats).where(self._alive(chat_id))).mappings().one_or_none()
        return None if row is None else _chat_row(row)

    def page(
        self,
        *,
        model: str | None = None,
        metadata: dict[str, str] | None = None,
        limit: int = 20,
        after: str | None = None,
        order: Order = "desc",
    ) -> Page[ChatRow]:
        """Return a page of completions.

        `model` is the model that answered or the name that was asked for; all pairs of `metadata` must match. A deleted
        completion still serves as `after`. A page has at most `PAGE_BYTES`, but always a completion if there is one.
        """
        query = select(chats.c.seq, chats.c.bytes).where(self._scope.of(chats), chats.c.deleted_at.is_(None))
        if model is not None:
            query = query.where(or_(chats.c.model == model, chats.c.requested_model == model))
        for key, value in (metadata or {}).items():
            query = query.where(_has_pair(key, value))
        with self._database.read() as connection:
            found, more = fetch_page(connection, query, chats, Cursor(limit, after, order), self._scope)
            fit = _fitting([row["bytes"] for row in found])
            page = select(chats).where(chats.c.seq.in_([row["seq"] for row in found[:fit]]))
            page = page.order_by(chats.c.seq.desc() if order == "desc" else chats.c.seq)
            rows = list(connection.execute(page).mappings())
        return Page(tuple(_chat_row(row) for row in rows), more or fit < len(found))

    def set_metadata(self, chat_id: str, metadata: dict[str, str]) -> ChatRow | None:
        """Replace the metadata of a completion; None if there is no such completion."""
        change = update(chats).where(self._alive(chat_id)).values(metadata=metadata).returning(chats)
        with self._database.write() as connection:
            row = connection.execute(change).mappings().one_or_none()
            if row is not None:
                _set_pairs(connection, chat_id, metadata)
        return None if row is None else _chat_row(row)

    def delete(self, chat_id: str) -> bool:
        """Return False when there is no such completion. Its content is erased."""
        values = {"deleted_at": int(time.time()), "body": None, "messages": None, "metadata": None}
        with self._database.write() as connection:
            deleted = connection.execute(update(chats).where(self._alive(chat_id)).values(values)).rowcount > 0
            if deleted:
                _set_pairs(connection, chat_id, {})
        return deleted

    def _alive(self, chat_id: str) -> ColumnElement[bool]:
        return (chats.c.id == chat_id) & self._scope.of(chats) & chats.c.deleted_at.is_(None)


def _set_pairs(connection: Connection, chat_id: str, metadata: dict[str, str]) -> None:
    connection.execute(delete(chat_metadata).where(chat_metadata.c.chat_id == chat_id))
    pairs = {clean_text(key): value for key, value in metadata.items()}
    if pairs:
        rows = [{"chat_id": chat_id, "key": key, "value": value} for key, value in pairs.items()]
        connection.execute(insert(chat_metadata), rows)


def _has_pair(key: str, value: str) -> ColumnElement[bool]:
    of_chat = chat_metadata.c.chat_id == chats.c.id
    return exists().where(of_chat, chat_metadata.c.key == key, chat_metadata.c.value == value)


def _fitting(sizes: Sequence[int]) -> int:
    """How many of these, from the first on, are one page."""
    return next((at for at, total in enumerate(accumulate(sizes)) if at and total > PAGE_BYTES), len(sizes))


def _chat_row(row: RowMapping) -> ChatRow:
    values = {name: row[name] for name in ChatRow.__slots__}
    values["messages"] = tuple(row["messages"])
    return ChatRow(**values)
