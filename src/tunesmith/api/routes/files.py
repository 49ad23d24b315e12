"""/v1/files: upload, list, retrieve, delete, content.

Source of the shapes: OpenAI's recorded answers.
"""

import time
from functools import partial
from typing import Annotated, Literal

from anyio import to_thread
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from tunesmith.api.background.file_checks import ChecksDep, FileChecks
from tunesmith.api.http.body import announced_bytes, body_chunks, upload_threads
from tunesmith.api.http.context import Context, ContextDep, KeyDep
from tunesmith.api.http.disk_room import demand_room, within_room
from tunesmith.api.http.idempotency import Idempotency, IdempotencyDep
from tunesmith.api.http.json_answers import JSONAnswer
from tunesmith.api.http.multipart import UploadForm
from tunesmith.api.http.paging import After, Limit, Order, id_listing
from tunesmith.api.http.rules import rule
from tunesmith.api.stored_content import stored_content
from tunesmith.api.views.files import file_json
from tunesmith.errors import InvalidRequest, NotFound
from tunesmith.jsonvalue import JsonObject
from tunesmith.store import Blob, FileRow, KeyRow, NewFile
from tunesmith.wire.body import read
from tunesmith.wire.files import BATCH_EXPIRY, FileForm
from tunesmith.wire.lists import deleted

router = APIRouter(prefix="/v1/files", tags=["files"])

Encoding = Annotated[
    Literal["plain", "base64"] | None,
    Query(description="plain or base64; unset: the setting result_encoding for result files, plain for others."),
]


@router.post("")
@rule("member", limit="uploads")
async def create_file(
    request: Request, context: ContextDep, key: KeyDep, checks: ChecksDep, idempotency: IdempotencyDep
) -> JSONAnswer:
    """Stores an upload and checks it; small files are checked before the answer."""
    store = partial(_create, request, context, key, checks, idempotency)
    return JSONAnswer(file_json(await to_thread.run_sync(store, limiter=upload_threads(context.project))))


def _create(request: Request, context: Context, key: KeyRow, checks: FileChecks, idempotency: Idempotency) -> FileRow:
    form = UploadForm(request.headers.get("content-type", ""), body_chunks(request))
    demand_room(context, announced_bytes(request))
    chunks = within_room(context, form.file_chunks())
    blob = context.store.blobs.write(chunks, max_bytes=context.settings.max_file_bytes)
    try:
        purpose, expires_at = _validated(form, blob)
    except InvalidRequest:
        context.store.blobs.delete(blob.id)
        raise
    requested: JsonObject = {**form.fields, "filename": form.filename, "sha256": blob.sha256}
    row = context.store.files.create(
        blob,
        NewFile(purpose, form.filename or "file", expires_at=expires_at, project=key.project),
        idempotency.creation("file", key, requested) if idempotency.key else None,
    )
    return checks.submit(row)


@router.get("")
@rule("read-only")
def list_files(
    context: ContextDep,
    after: After,
    purpose: Annotated[str | None, Query(description="Only files with this purpose.")] = None,
    limit: Limit = 10_000,
    order: Order = "desc",
) -> JSONAnswer:
    """The project's files."""
    rows = context.store.files.page(purpose=purpose, limit=limit, after=after, order=order)
    return JSONAnswer(id_listing([file_json(row) for row in rows.data], rows.has_more))


@router.get("/{file_id}")
@rule("read-only")
def retrieve_file(file_id: str, context: ContextDep) -> JSONAnswer:
    """One file."""
    return JSONAnswer(file_json(find_file(context, file_id)))


@router.delete("/{file_id}")
@rule("member")
def delete_file(file_id: str, context: ContextDep, checks: ChecksDep) -> JSONAnswer:
    """Deletes a file and its bytes."""
    row = context.store.files.for_job(file_id)  # expired ones too
    if row is None or not context.store.files.delete(file_id):
        raise _no_such_file(file_id)
    checks.discard(row)
    return JSONAnswer(deleted(file_id, "file"))


@router.get("/{file_id}/content")
@rule("read-only")
def file_content(request: Request, file_id: str, context: ContextDep, encoding: Encoding = None) -> Response:
    """The bytes as they were uploaded.

    Result files come as the setting `result_encoding` says; `?encoding=base64` is for code that decodes them, as it
    must at OpenAI.
    """
    row = find_file(context, file_id)
    if encoding is None and row.purpose == "fine-tune-results":
        encoding = context.settings.result_encoding
    return stored_content(request, context.store.blobs, row, base64=encoding == "base64")


def find_file(context: Context, file_id: str) -> FileRow:
    """The file's row. Raises NotFound."""
    row = context.store.files.get(file_id)
    if row is None:
        raise _no_such_file(file_id)
    return row


def _no_such_file(file_id: str) -> NotFound:
    return NotFound(f"No such File object: {file_id}", param="id")


def _validated(form: UploadForm, blob: Blob) -> tuple[str, int | None]:
    """Purpose and expiry. The whole form has been read by now, so the order of its parts does not matter."""
    given: JsonObject = {**form.fields, "file": form.filename} if form.filename else {**form.fields}
    body = read(FileForm, given)
    if blob.bytes == 0:
        raise InvalidRequest(
            f"The file {form.filename!r} is empty (0 bytes). Check that it was written and closed before the upload, "
            "and that the file handle is at its start.",
            param="file",
            code="empty_file",
        )
    lifetime = BATCH_EXPIRY if body.seconds is None and body.purpose == "batch" else body.seconds
    return body.purpose, None if lifetime is None else int(time.time()) + lifetime
