"""/v1/files: upload, list, retrieve, delete, content. Source of the shapes: OpenAI's recorded answers."""

import base64
import re
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from anyio import CapacityLimiter, from_thread, to_thread
from fastapi import APIRouter, Query, Request
from starlette.responses import FileResponse, Response, StreamingResponse

from tunesmith.api.background.file_checks import ChecksDep, FileChecks
from tunesmith.api.http.context import Context, ContextDep, KeyDep
from tunesmith.api.http.errors import missing, shown, unknown_parameter
from tunesmith.api.http.idempotency import Attempt, AttemptDep
from tunesmith.api.http.json_answers import JSONAnswer
from tunesmith.api.http.multipart import UploadForm
from tunesmith.api.http.paging import After, Limit, page
from tunesmith.errors import InvalidRequest, NotFound
from tunesmith.jsonvalue import JsonObject
from tunesmith.store import Blob, FileRow, KeyRow

router = APIRouter(prefix="/v1/files", tags=["files"])

PURPOSES = ("fine-tune", "assistants", "batch", "user_data", "vision", "evals")
MIN_EXPIRY, MAX_EXPIRY = 3600, 2_592_000  # seconds: an hour, 30 days
BATCH_EXPIRY = MAX_EXPIRY  # OpenAI's rule: batch files go after 30 days unless told otherwise
FIELDS = ("purpose", "expires_after[anchor]", "expires_after[seconds]")


# A slow upload holds its thread for as long as it lasts; threads of their own keep the other routes answering.
UPLOADS_AT_ONCE = CapacityLimiter(16)


@router.post("")
async def create_file(
    request: Request, context: ContextDep, key: KeyDep, checks: ChecksDep, attempt: AttemptDep
) -> JSONAnswer:
    store = partial(_create, request, context, key, checks, attempt)
    return JSONAnswer(file_json(await to_thread.run_sync(store, limiter=UPLOADS_AT_ONCE)))


def _create(request: Request, context: Context, key: KeyRow, checks: FileChecks, attempt: Attempt) -> FileRow:
    form = UploadForm(request.headers.get("content-type", ""), body_chunks(request))
    blob = context.store.blobs.write(form.file_chunks(), max_bytes=context.settings.max_file_bytes)
    try:
        purpose, expires_at = _validated(form, blob)
    except InvalidRequest:
        context.store.blobs.delete(blob.id)
        raise
    asked: JsonObject = {**form.fields, "filename": form.filename, "sha256": blob.sha256}
    row = context.store.files.create(
        blob,
        purpose=purpose,
        filename=form.filename or "file",
        expires_at=expires_at,
        project=key.project,
        creation=attempt.creation("file", key, asked) if attempt.idempotency_key else None,
    )
    return checks.submit(row)


@router.get("")
def list_files(
    context: ContextDep,
    after: After,
    purpose: str | None = None,
    limit: Limit = 10_000,
    order: Literal["asc", "desc"] = "desc",
) -> JSONAnswer:
    rows = context.store.files.page(purpose=purpose, limit=limit, after=after, order=order)
    return JSONAnswer(page([file_json(row) for row in rows.data], rows.has_more, ids=True))


@router.get("/{file_id}")
def retrieve_file(file_id: str, context: ContextDep) -> JSONAnswer:
    return JSONAnswer(file_json(find_file(context, file_id)))


@router.delete("/{file_id}")
def delete_file(file_id: str, context: ContextDep, checks: ChecksDep) -> JSONAnswer:
    row = context.store.files.for_job(file_id)  # expired ones too
    if row is None or not context.store.files.delete(file_id):
        raise _no_such_file(file_id)
    checks.discard(row)
    return JSONAnswer({"id": file_id, "object": "file", "deleted": True})


@router.get("/{file_id}/content")
def file_content(
    file_id: str, context: ContextDep, encoding: Annotated[Literal["plain", "base64"] | None, Query()] = None
) -> Response:
    """The bytes as they were uploaded. `?encoding=base64` serves code that decodes result files, as OpenAI's need.

    Without it, result files come as the setting `result_encoding` says.
    """
    row = find_file(context, file_id)
    if encoding is None and row.purpose == "fine-tune-results":
        encoding = context.settings.result_encoding
    path = context.store.blobs.path(row.id)
    media_type = "application/octet-stream"
    if encoding == "base64":
        return StreamingResponse(_base64(path), media_type=media_type)
    return FileResponse(path, filename=row.filename, media_type=media_type)


def file_json(row: FileRow) -> JsonObject:
    """The wire's keys in the wire's order."""
    return {
        "object": "file",
        "id": row.id,
        "purpose": row.purpose,
        "filename": row.filename,
        "bytes": row.bytes,
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "status": row.status,
        "status_details": row.status_details,
    }


def find_file(context: Context, file_id: str) -> FileRow:
    row = context.store.files.get(file_id)
    if row is None:
        raise _no_such_file(file_id)
    return row


def _no_such_file(file_id: str) -> NotFound:
    return NotFound(f"No such File object: {file_id}", param="id")


def body_chunks(request: Request) -> Iterator[bytes]:
    """The request's bytes for a route in a worker thread: each chunk is asked of the event loop, none is kept."""
    stream = request.stream()
    while chunk := from_thread.run(partial(anext, stream, b"")):
        yield chunk


def _validated(form: UploadForm, blob: Blob) -> tuple[str, int | None]:
    """Purpose and expiry. Every part of the form has been read by now, so their order did not matter."""
    unknown = sorted(form.fields.keys() - set(FIELDS))
    if unknown:
        raise unknown_parameter(unknown[0])
    given = {*form.fields, "file"} if form.filename else {*form.fields}
    for name in ("file", "purpose"):
        if name not in given:
            raise missing(name)
    purpose = form.fields["purpose"]
    if purpose not in PURPOSES:
        raise InvalidRequest(f"{shown(purpose)} is not one of {list(PURPOSES)} - 'purpose'", param="purpose")
    if blob.bytes == 0:
        raise InvalidRequest(
            f"The file {form.filename!r} is empty (0 bytes). Check that it was written and closed before the upload, "
            "and that the handle stands at its start.",
            param="file",
            code="empty_file",
        )
    return purpose, _expires_at(form.fields, purpose)


def _expires_at(fields: dict[str, str], purpose: str) -> int | None:
    anchor, seconds = fields.get("expires_after[anchor]"), fields.get("expires_after[seconds]")
    now = int(time.time())
    if anchor is None and seconds is None:
        return now + BATCH_EXPIRY if purpose == "batch" else None
    if anchor != "created_at":
        name = "expires_after[anchor]"
        raise InvalidRequest(f"{anchor!r} is not one of ['created_at'] - '{name}'", param=name)
    lifetime = int(seconds) if seconds and re.fullmatch("[0-9]{1,9}", seconds) else 0
    if not MIN_EXPIRY <= lifetime <= MAX_EXPIRY:
        name = "expires_after[seconds]"
        raise InvalidRequest(
            f"{seconds!r} is not a whole number of seconds from {MIN_EXPIRY} to {MAX_EXPIRY} - '{name}'", param=name
        )
    return now + lifetime


def _base64(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(3 * 64 * 1024):  # a multiple of 3, so that the pieces join without padding
            yield base64.b64encode(chunk)
