"""Uploads: files that arrive in parts and become a file when they are completed.

    pending -> completed | cancelled | expired       (expired: `expires_at` has passed; nobody has to record it)

Parts may arrive in any order and at the same time. A part is acknowledged once its bytes are synced and its row is
committed. `complete` writes the whole file beside the parts and commits file and status together, so a process that
dies in between has lost nothing: the call can be repeated.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from hashlib import md5

from sqlalchemy import Connection, RowMapping, func, insert, select, update

from tunesmith.errors import InvalidRequest
from tunesmith.store.ids import new_upload_id
from tunesmith.store.objects.blobs import BlobStore
from tunesmith.store.objects.files import alive, file_row, insert_file
from tunesmith.store.objects.idempotency import CreateRequest, find_earlier, remember_request
from tunesmith.store.objects.parts import PartStore, no_such_upload
from tunesmith.store.rows import Blob, FileRow, NewFile, NewUpload, PartRow, UploadRow
from tunesmith.store.schema.db import Database
from tunesmith.store.schema.tables import files, upload_parts, uploads
from tunesmith.store.scope import Scope

GRACE_SECONDS = 600  # an upload whose completion began in time may still read its parts
ORPHAN_SECONDS = 86_400  # a directory without a row: of a crash before the commit, or of another database


class UploadStore:
    """Rows and bytes of uploads that arrive in parts."""

    def __init__(self, database: Database, blobs: BlobStore, parts: PartStore, scope: Scope) -> None:
        self._database = database
        self._blobs = blobs
        self._parts = parts
        self._scope = scope

    def within(self, scope: Scope) -> "UploadStore":
        """The same store, limited to `scope`."""
        return UploadStore(self._database, self._blobs, self._parts, scope)

    def create(self, upload: NewUpload, *, seconds: int, request: CreateRequest | None = None) -> UploadRow:
        """Create an upload that accepts parts for `seconds` seconds.

        Returns the upload of an earlier attempt at `request` instead, if there was one.
        """
        now, upload_id = int(time.time()), new_upload_id()
        values = {name: getattr(upload, name) for name in NewUpload.__slots__}
        values |= {"id": upload_id, "created_at": now, "expires_at": now + seconds, "status": "pending"}
        self._parts.open(upload_id)
        with self._database.write() as connection:
            made = find_earlier(self._database, connection, request) if request else None
            if made is None:
                connection.execute(insert(uploads).values(values))
                if request:
                    remember_request(connection, request, upload_id)
            row = self._lock(connection, made or upload_id)
        if made is not None:
            self._parts.close(upload_id)
        return row

    def get(self, upload_id: str) -> UploadRow | None:
        """Return an upload; None when it is unknown."""
        with self._database.read() as connection:
            query = select(uploads).where(uploads.c.id == upload_id, self._scope.of(uploads))
            row = connection.execute(query).mappings().one_or_none()
        return None if row is None else _upload_row(row)

    def pending_bytes(self) -> int:
        """Return the bytes that open uploads have announced."""
        query = select(func.coalesce(func.sum(uploads.c.bytes), 0))
        query = query.where(self._scope.of(uploads), uploads.c.status == "pending")
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def add_part(self, upload_id: str, chunks: Iterable[bytes], *, room: int) -> PartRow:
        """Store one part.

        `room`: how many bytes all parts together may hold, those included that no `complete` will name. Raises
        NotFound, and InvalidRequest when the upload accepts no more parts or has no room.
        """
        _check_pending(self._found(upload_id))
        try:
            part_id, size = self._parts.write(upload_id, chunks)
        except FileNotFoundError:  # cancelled, or expired and swept, while the bytes came
            _check_pending(self._found(upload_id))
            raise
        try:
            return self._insert_part(upload_id, part_id, size, room)
        except InvalidRequest:  # after any other error the row may or may not exist
            self._parts.discard(upload_id, part_id)
            raise

    def complete(
        self, upload_id: str, part_ids: Sequence[str], md5_hex: str | None
    ) -> tuple[UploadRow, FileRow | None]:
        """Return the upload and its file, None if that was deleted since.

        Repeating the same call returns the same. Raises NotFound, and InvalidRequest (`part_ids`, `md5`) when the
        parts do not match what was announced; the upload stays pending then.
        """
        upload = self._found(upload_id)
        if upload.status != "completed":
            _check_pending(upload)
            self._check_parts(upload, part_ids)
            upload = self._make_file(upload, part_ids, md5_hex)
        if upload.part_ids != tuple(part_ids):
            raise _ended_error(upload)
        return upload, self._file(upload)

    def cancel(self, upload_id: str) -> UploadRow:
        """Cancel an upload and remove its parts; cancelling twice is no error."""
        with self._database.write() as connection:
            upload = self._lock(connection, upload_id)
            if upload.status != "cancelled":
                _check_pending(upload)
                upload = _change(connection, upload_id, status="cancelled")
        self._parts.close(upload_id)
        return upload

    def sweep(self) -> int:
        """Remove the parts of every upload that has ended; return of how many."""
        ages = self._parts.ages()
        limit = int(time.time()) - GRACE_SECONDS
        old = uploads.c.status == "pending", uploads.c.expires_at <= limit
        with self._database.write() as connection:
            connection.execute(update(uploads).where(*old).values(status="expired"))
            rows = connection.execute(select(uploads.c.id, uploads.c.status).where(uploads.c.id.in_(ages))).all()
        known = {row.id: row.status for row in rows}
        over = [
            one for one, age in ages.items() if known.get(one, "pending" if age < ORPHAN_SECONDS else "") != "pending"
        ]
        for upload_id in over:
            self._parts.close(upload_id)
        return len(over)

    def _found(self, upload_id: str) -> UploadRow:
        upload = self.get(upload_id)
        if upload is None:
            raise no_such_upload(upload_id)
        return upload

    def _lock(self, connection: Connection, upload_id: str) -> UploadRow:
        query = select(uploads).where(uploads.c.id == upload_id, self._scope.of(uploads)).with_for_update()
        row = connection.execute(query).mappings().one_or_none()
        if row is None:
            raise no_such_upload(upload_id)
        return _upload_row(row)

    def _insert_part(self, upload_id: str, part_id: str, size: int, room: int) -> PartRow:
        values = {"id": part_id, "upload_id": upload_id, "created_at": int(time.time()), "bytes": size}
        with self._database.write() as connection:
            _check_pending(self._lock(connection, upload_id))
            stored = select(func.coalesce(func.sum(upload_parts.c.bytes), 0)).where(
                upload_parts.c.upload_id == upload_id
            )
            held = int(connection.execute(stored).scalar_one())
            if held + size > room:
                raise InvalidRequest(
                    f"The parts of {upload_id} hold {held:,} bytes, and this one of {size:,} would make them more than "
                    f"the {room:,} that an upload of its size may use. Complete it, or cancel it and begin again.",
                    param="data",
                )
            statement = insert(upload_parts).values(values).returning(upload_parts)
            row = connection.execute(statement).mappings().one()
        return PartRow(**{name: row[name] for name in PartRow.__slots__})

    def _check_parts(self, upload: UploadRow, part_ids: Sequence[str]) -> None:
        query = select(upload_parts.c.id, upload_parts.c.bytes).where(upload_parts.c.upload_id == upload.id)
        with self._database.read() as connection:
            sizes = {row.id: row.bytes for row in connection.execute(query)}
        for index, part_id in enumerate(part_ids):
            if part_id not in sizes:
                raise InvalidRequest(
                    f"{part_id!r:.60} is not a part of {upload.id}, which has {len(sizes)} - 'part_ids[{index}]'",
                    param=f"part_ids[{index}]",
                )
        if len(set(part_ids)) < len(part_ids):
            raise InvalidRequest("A part is named twice - 'part_ids'", param="part_ids")
        total = sum(sizes[part_id] for part_id in part_ids)
        if total != upload.bytes:
            raise InvalidRequest(
                f"The {len(part_ids)} parts hold {total:,} bytes, but the upload was created for {upload.bytes:,}. "
                "Name every part, in order, or begin again with the right number of bytes.",
                param="part_ids",
            )

    def _make_file(self, upload: UploadRow, part_ids: Sequence[str], md5_hex: str | None) -> UploadRow:
        try:
            return self._finish(upload, part_ids, self._assemble(upload, part_ids, md5_hex))
        except FileNotFoundError as error:  # cancelled, or completed by another call, while we read
            now = self._found(upload.id)
            if now.status == "completed":
                return now
            _check_pending(now)
            raise InvalidRequest(
                f"Parts of {upload.id} are not there any more, as after the server's files were moved to another place."
                " Cancel it, and create another one (POST /v1/uploads).",
                param="part_ids",
                code="upload_parts_missing",
            ) from error

    def _assemble(self, upload: UploadRow, part_ids: Sequence[str], md5_hex: str | None) -> Blob:
        digest = md5(usedforsecurity=False)

        def chunks() -> Iterator[bytes]:
            for chunk in self._parts.read(upload.id, part_ids):
                digest.update(chunk)
                yield chunk

        blob = self._blobs.write(chunks())
        if md5_hex is not None and digest.hexdigest() != md5_hex.lower():
            self._blobs.delete(blob.id)
            raise InvalidRequest(
                f"The md5 of the parts in this order is {digest.hexdigest()}, not {md5_hex}. Check their order, and "
                "send again what differs - 'md5'",
                param="md5",
            )
        return blob

    def _finish(self, upload: UploadRow, part_ids: Sequence[str], blob: Blob) -> UploadRow:
        """Commit file and status together; return the row of whichever call was first."""
        with self._database.write() as connection:
            now = self._lock(connection, upload.id)
            won = now.status in ("pending", "expired")  # it was pending when this call began
            if won:
                _insert_whole(connection, upload, blob)
                now = _change(connection, upload.id, status="completed", file_id=blob.id, part_ids=list(part_ids))
        if won:
            self._blobs.claim(blob)
            self._parts.close(upload.id)
        else:
            self._blobs.delete(blob.id)
        if now.status != "completed":
            raise _ended_error(now)
        return now

    def _file(self, upload: UploadRow) -> FileRow | None:
        with self._database.read() as connection:
            query = select(files).where(files.c.id == upload.file_id, alive())
            row = connection.execute(query).mappings().one_or_none()
        return None if row is None else file_row(row)


def _insert_whole(connection: Connection, upload: UploadRow, blob: Blob) -> None:
    lifetime = upload.file_lifetime
    expires_at = None if lifetime is None else int(time.time()) + lifetime
    insert_file(
        connection, blob, NewFile(upload.purpose, upload.filename, expires_at=expires_at, project=upload.project)
    )


def _change(connection: Connection, upload_id: str, **values: object) -> UploadRow:
    statement = update(uploads).where(uploads.c.id == upload_id).values(**values).returning(uploads)
    return _upload_row(connection.execute(statement).mappings().one())


def _upload_row(row: RowMapping) -> UploadRow:
    values = {name: row[name] for name in UploadRow.__slots__}
    if row["status"] == "pending" and row["expires_at"] <= int(time.time()):
        values["status"] = "expired"
    values["part_ids"] = None if row["part_ids"] is None else tuple(row["part_ids"])
    return UploadRow(**values)


def _check_pending(upload: UploadRow) -> None:
    if upload.status != "pending":
        raise _ended_error(upload)


def _ended_error(upload: UploadRow) -> InvalidRequest:
    when = f" at {upload.expires_at} (Unix time)" if upload.status == "expired" else ""
    return InvalidRequest(
        f"The upload {upload.id} is {upload.status}{when}: it accepts no more parts and can no longer be"
        " completed or cancelled. Create another one (POST /v1/uploads).",
        param="upload_id",
        code=f"upload_{upload.status}",
    )
