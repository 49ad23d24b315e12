"""Uploaded files and results: the rows. Their bytes are blobs of the same id."""

import time
from collections.abc import Collection
from contextlib import AbstractContextManager
from pathlib import Path

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, exists, func, insert, not_, or_, select, update

from tunesmith.jsonvalue import JsonObject
from tunesmith.store.evals.evals import erase_evals
from tunesmith.store.objects.blobs import BlobStore, Leftovers
from tunesmith.store.objects.idempotency import CreateRequest, find_earlier, remember_request
from tunesmith.store.objects.pagination import Cursor, by_time, fetch_page
from tunesmith.store.rows import Blob, FileRow, FileStatus, NewFile, Order, Page
from tunesmith.store.schema.db import Database
from tunesmith.store.schema.eval_tables import evals
from tunesmith.store.schema.tables import UNCHECKED, UNFINISHED, files, jobs
from tunesmith.store.scope import Scope

SHOWN = tuple(
    files.c[name] for name in FileRow.__slots__
)  # not the report, which is longer than all other columns together


RESULTS = "fine-tune-results"  # the purpose of the files that jobs write


class FileStore:
    """The rows of files, and through them their bytes."""

    def __init__(self, database: Database, blobs: BlobStore, scope: Scope) -> None:
        self._database = database
        self._blobs = blobs
        self._scope = scope

    def within(self, scope: Scope) -> "FileStore":
        """The same store, limited to `scope`."""
        return FileStore(self._database, self._blobs, scope)

    def create(self, blob: Blob, new: NewFile, request: CreateRequest | None = None) -> FileRow:
        """Create a file from a blob and return its row.

        Where an earlier attempt at `request` made one that still exists, that one is returned and `blob` is discarded.
        """
        with self._database.write() as connection:
            earlier = self._find_earlier(connection, request) if request else None
            row = earlier or insert_file(connection, blob, new)
            if request and not earlier:
                remember_request(connection, request, row.id)
        if earlier:
            self._blobs.delete(blob.id)
        else:
            self._blobs.claim(blob)
        return row

    def _find_earlier(self, connection: Connection, request: CreateRequest) -> FileRow | None:
        file_id = find_earlier(self._database, connection, request)
        row = connection.execute(select(*SHOWN).where(files.c.id == file_id, alive())).mappings().one_or_none()
        return None if row is None else file_row(row)

    def set_status(
        self, file_id: str, status: FileStatus, *, details: str | None = None, report: JsonObject | None = None
    ) -> FileRow | None:
        """Record the check's verdict; None when the file was deleted meanwhile."""
        change = (
            update(files)
            .where(files.c.id == file_id, self._scope.of(files), alive())
            .values(status=status, status_details=details, report=report)
            .returning(*SHOWN)
        )
        with self._database.write() as connection:
            row = connection.execute(change).mappings().one_or_none()
        return None if row is None else file_row(row)

    def get(self, file_id: str) -> FileRow | None:
        """Return a file; None when it is unknown, deleted or expired."""
        with self._database.read() as connection:
            query = select(*SHOWN).where(files.c.id == file_id, self._scope.of(files), alive())
            row = connection.execute(query).mappings().one_or_none()
        return None if row is None else file_row(row)

    def report(self, file_id: str) -> JsonObject | None:
        """Return what `check.file_check` found; None also before it has run."""
        query = select(files.c.report).where(files.c.id == file_id, self._scope.of(files), alive())
        with self._database.read() as connection:
            found: JsonObject | None = connection.execute(query).scalar_one_or_none()
        return found

    def row_counts(self, file_ids: Collection[str]) -> dict[str, int]:
        """Return how many rows each of these files has.

        Those that were not checked are left out.
        """
        if not file_ids:
            return {}
        query = select(files.c.id, files.c.report).where(files.c.id.in_(file_ids), self._scope.of(files), alive())
        with self._database.read() as connection:
            found = [(file_id, (report or {}).get("examples")) for file_id, report in connection.execute(query)]
        return {file_id: count for file_id, count in found if count is not None}  # None: of an earlier version too

    def page(
        self, *, purpose: str | None = None, limit: int = 10_000, after: str | None = None, order: Order = "desc"
    ) -> Page[FileRow]:
        """Return a page of files, by the time of their creation.

        An unknown `after` gives an empty page; a deleted file still serves as `after`.
        """
        query = select(*SHOWN).where(self._scope.of(files), alive())
        if purpose is not None:
            query = query.where(files.c.purpose == purpose)
        place = by_time(files, self._scope)
        with self._database.read() as connection:
            rows, more = fetch_page(connection, query, files, Cursor(limit, after, order), self._scope, place)
        return Page(tuple(file_row(row) for row in rows), more)

    def used_bytes(self) -> int:
        """Return the bytes of all files that are there, results of jobs included."""
        query = select(func.coalesce(func.sum(files.c.bytes), 0)).where(self._scope.of(files), alive())
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def all_blobs(self) -> list[Blob]:
        """Return what every file should have as bytes, oldest first.

        Expired files that are not deleted yet are among them.
        """
        query = select(files.c.id, files.c.bytes, files.c.sha256).where(files.c.deleted_at.is_(None))
        with self._database.read() as connection:
            rows = connection.execute(query.where(self._scope.of(files)).order_by(files.c.seq)).all()
        return [Blob(row.id, row.bytes, row.sha256) for row in rows]

    def unchecked(self) -> list[FileRow]:
        """Return files whose check has not ended, oldest first.

        After a crash they are checked again.
        """
        query = select(*SHOWN).where(UNCHECKED, self._scope.of(files), alive()).order_by(files.c.seq)
        with self._database.read() as connection:
            return [file_row(row) for row in connection.execute(query).mappings()]

    def delete(self, file_id: str) -> bool:
        """Return False when there is no such file.

        A job that has already read the file continues.
        """
        with self._database.write() as connection:
            deleted = _mark_deleted(connection, and_(files.c.id == file_id, self._scope.of(files)))
        for file in deleted:
            self._blobs.delete(file)
        return bool(deleted)

    def for_job(self, file_id: str) -> FileRow | None:
        """Like `get`, but also finds an expired file while a job that uses it goes on."""
        with self._database.read() as connection:
            query = select(*SHOWN).where(files.c.id == file_id, self._scope.of(files), files.c.deleted_at.is_(None))
            row = connection.execute(query).mappings().one_or_none()
        return None if row is None else file_row(row)

    def expire(self) -> int:
        """Delete expired files that no unfinished job uses; return how many."""
        uses = or_(jobs.c.training_file == files.c.id, jobs.c.validation_file == files.c.id)
        in_use = exists().where(uses, UNFINISHED)
        with self._database.write() as connection:
            expired = _mark_deleted(connection, and_(files.c.expires_at <= int(time.time()), not_(in_use)))
        for file_id in expired:
            self._blobs.delete(file_id)
        return len(expired)

    def local_copy(self, file_id: str) -> Path:
        """Return a path of the file's bytes on this machine.

        They are fetched from object storage if they are not here. To be opened soon; nothing is there when the file was
        deleted. Raises StorageUnavailable.
        """
        path = self._blobs.cached(file_id)
        if path is not None:
            return path
        query = select(files.c.bytes, files.c.sha256)
        query = query.where(files.c.id == file_id, self._scope.of(files), files.c.deleted_at.is_(None))
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            return self._blobs.path(file_id)
        return self._blobs.fetch(Blob(file_id, row.bytes, row.sha256))

    def copy_for_job(self, file_id: str, folder: Path) -> Path:
        """Return a path of the file's bytes that stays as long as a job's `folder`.

        Raises FileNotFoundError and StorageUnavailable where they have to be fetched.
        """
        return self._blobs.keep(file_id, folder, self.local_copy)

    def held(self, file_id: str) -> AbstractContextManager[Path]:
        """Return a path as of `local_copy` that stays until the block ends."""
        return self._blobs.hold(self.local_copy(file_id))

    def tidy(self) -> int:
        """Remove bytes of files that are gone; return of how many.

        A crash, another machine's deletion, or an object storage that did not answer has left them.
        """
        left = self._blobs.leftovers()
        if left == Leftovers():
            return 0
        live, deleted = self._known()
        return self._blobs.remove(left, live, deleted)

    def sweep(self) -> int:
        """Delete expired files and what crashes left; return how many bodies went."""
        expired, abandoned = self.expire(), self._blobs.sweep_partial()
        live, deleted = self._known()
        return expired + self._blobs.sweep(abandoned, live, deleted)

    def _known(self) -> tuple[set[str], set[str]]:
        """The ids of the files that are there, and of those that were."""
        with self._database.read() as connection:
            rows = connection.execute(select(files.c.id, files.c.deleted_at)).all()
        return {row.id for row in rows if row.deleted_at is None}, {
            row.id for row in rows if row.deleted_at is not None
        }


def insert_file(connection: Connection, blob: Blob, new: NewFile) -> FileRow:
    """Insert the row of `blob`, which the caller claims after the commit."""
    values = {name: getattr(new, name) for name in NewFile.__slots__}
    values |= {"id": blob.id, "bytes": blob.bytes, "sha256": blob.sha256, "created_at": int(time.time())}
    return file_row(connection.execute(insert(files).values(values).returning(*SHOWN)).mappings().one())


def file_row(row: RowMapping) -> FileRow:
    """The row as the store returns it."""
    return FileRow(**{name: row[name] for name in FileRow.__slots__})


def alive() -> ColumnElement[bool]:
    """The condition that a file is neither deleted nor expired."""
    return and_(files.c.deleted_at.is_(None), or_(files.c.expires_at.is_(None), files.c.expires_at > int(time.time())))


def _mark_deleted(connection: Connection, which: ColumnElement[bool]) -> list[str]:
    """Mark rows as deleted, erase what the user wrote in them, return their ids.

    An eval that shows what is in one of them goes along.
    """
    change = (
        update(files)
        .where(files.c.deleted_at.is_(None), which)
        .values(deleted_at=int(time.time()), filename="", status_details=None, report=None)
        .returning(files.c.id, files.c.purpose)
    )
    deleted = connection.execute(change).all()
    results = [row.id for row in deleted if row.purpose == RESULTS]
    if results:
        erase_evals(connection, evals.c.result_file.in_(results))
    return [row.id for row in deleted]
