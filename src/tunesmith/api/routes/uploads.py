"""/v1/uploads: a file in parts, for what is too large or too slow for one request. Source: OpenAI's description.

The finished file is checked as one that came through POST /v1/files, and has the same statuses.
"""

from collections.abc import Iterator
from functools import partial
from typing import Annotated, Literal, TypeAlias

from anyio import to_thread
from fastapi import APIRouter, Body, Request
from pydantic import Field, StrictInt, field_validator

from tunesmith.api.background.file_checks import ChecksDep
from tunesmith.api.http.context import Context, ContextDep, KeyDep
from tunesmith.api.http.errors import missing, shown, unknown_parameter
from tunesmith.api.http.idempotency import AttemptDep
from tunesmith.api.http.json_answers import JSONAnswer
from tunesmith.api.http.multipart import UploadForm, shown_name
from tunesmith.api.routes.files import (
    BATCH_EXPIRY,
    MAX_EXPIRY,
    MIN_EXPIRY,
    PURPOSES,
    UPLOADS_AT_ONCE,
    body_chunks,
    file_json,
)
from tunesmith.errors import InvalidRequest, NotFound
from tunesmith.jsonvalue import JsonObject
from tunesmith.store import FileRow, NewUpload, PartRow, UploadRow
from tunesmith.store.objects.blobs import limited
from tunesmith.wire.job_request import Strict, Text

router = APIRouter(prefix="/v1/uploads", tags=["uploads"])

JSONL_TYPES = (
    "text/jsonl",
    "application/jsonl",
    "application/x-ndjson",
    "application/json",
    "application/octet-stream",
)
MAX_PARTS = 10_000

PartIds: TypeAlias = Annotated[list[Text], Field(min_length=1, max_length=MAX_PARTS)]


class ExpiresAfter(Strict):
    anchor: Literal["created_at"]
    seconds: StrictInt = Field(ge=MIN_EXPIRY, le=MAX_EXPIRY)


class CreateUpload(Strict):
    filename: Text = Field(min_length=1)
    purpose: Text
    bytes: StrictInt = Field(ge=1)
    mime_type: Text = Field(min_length=1, max_length=255)
    expires_after: ExpiresAfter | None = None

    @field_validator("purpose")
    @classmethod
    def _purpose(cls, purpose: str) -> str:
        if purpose not in PURPOSES:
            raise ValueError(f"{shown(purpose)} is not one of {list(PURPOSES)}")
        return purpose


class CompleteUpload(Strict):
    part_ids: PartIds
    md5: Annotated[Text, Field(pattern="^[0-9a-fA-F]{32}$")] | None = None


@router.post("")
def create_upload(
    request: Annotated[CreateUpload, Body()], context: ContextDep, key: KeyDep, attempt: AttemptDep
) -> JSONAnswer:
    _demand_fit(request, context.settings.max_upload_bytes)
    upload = NewUpload(
        filename=shown_name(request.filename),
        purpose=request.purpose,
        bytes=request.bytes,
        mime_type=request.mime_type,
        file_lifetime=_file_lifetime(request),
        project=key.project,
    )
    asked = attempt.creation("upload", key, request.model_dump(mode="json"))
    creation = asked if attempt.idempotency_key else None
    seconds = context.settings.upload_seconds
    return JSONAnswer(upload_json(context.store.uploads.create(upload, seconds=seconds, request=creation)))


@router.get("/{upload_id}")
def retrieve_upload(upload_id: str, context: ContextDep) -> JSONAnswer:
    """Ours: OpenAI has no way to ask how an upload stands."""
    return JSONAnswer(upload_json(_find(context, upload_id)))


@router.post("/{upload_id}/parts")
async def add_part(upload_id: str, request: Request, context: ContextDep) -> JSONAnswer:
    row = await to_thread.run_sync(partial(_add_part, upload_id, request, context), limiter=UPLOADS_AT_ONCE)
    return JSONAnswer(part_json(row))


@router.post("/{upload_id}/complete")
async def complete_upload(
    upload_id: str, request: Annotated[CompleteUpload, Body()], context: ContextDep, checks: ChecksDep
) -> JSONAnswer:
    """Writing gigabytes once more takes its time: not in the threads that answer everything else."""

    def work() -> JsonObject:
        upload, file = context.store.uploads.complete(upload_id, request.part_ids, request.md5)
        file = None if file is None else checks.submit(file)
        return upload_json(upload, file)

    return JSONAnswer(await to_thread.run_sync(work, limiter=UPLOADS_AT_ONCE))


@router.post("/{upload_id}/cancel")
def cancel_upload(upload_id: str, context: ContextDep) -> JSONAnswer:
    return JSONAnswer(upload_json(context.store.uploads.cancel(upload_id)))


def upload_json(row: UploadRow, file: FileRow | None = None) -> JsonObject:
    """The wire's keys in the wire's order; `file` is absent until there is one."""
    body: JsonObject = {
        "id": row.id,
        "object": "upload",
        "bytes": row.bytes,
        "created_at": row.created_at,
        "filename": row.filename,
        "purpose": row.purpose,
        "status": row.status,
        "expires_at": row.expires_at,
    }
    return body if file is None else {**body, "file": file_json(file)}


def part_json(row: PartRow) -> JsonObject:
    return {"id": row.id, "object": "upload.part", "created_at": row.created_at, "upload_id": row.upload_id}


def _add_part(upload_id: str, request: Request, context: Context) -> PartRow:
    settings, upload = context.settings, _find(context, upload_id)
    form = UploadForm(request.headers.get("content-type", ""), body_chunks(request), large="data")
    too_large = InvalidRequest(
        f"The part is larger than {settings.max_part_bytes:,} bytes, the limit here (setting max_part_bytes). Cut the "
        "file into smaller parts.",
        param="data",
    )

    chunks = _part_chunks(form, limited(form.file_chunks(), settings.max_part_bytes, too_large))
    room = 2 * upload.bytes + settings.max_part_bytes  # a part whose answer got lost is sent again
    return context.store.uploads.add_part(upload_id, chunks, room=room)


def _part_chunks(form: UploadForm, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Raises InvalidRequest at the end, when all of the form has been read and it was not one part of some bytes."""
    size = 0
    for chunk in chunks:
        size += len(chunk)
        yield chunk
    if form.fields:
        raise unknown_parameter(next(iter(form.fields)))
    if form.filename is None:
        raise missing("data")
    if size == 0:
        raise InvalidRequest("The part is empty (0 bytes) - 'data'", param="data")


def _demand_fit(request: CreateUpload, limit: int) -> None:
    if request.bytes > limit:
        raise InvalidRequest(
            f"{request.bytes:,} bytes are more than {limit:,}, the limit here (setting max_upload_bytes) - 'bytes'",
            param="bytes",
        )
    kind = request.mime_type.partition(";")[0].strip().lower()
    if request.purpose == "fine-tune" and kind not in JSONL_TYPES:
        raise InvalidRequest(
            f"{shown(request.mime_type)} does not fit the purpose 'fine-tune', which takes JSON lines: give "
            "'text/jsonl' - 'mime_type'",
            param="mime_type",
        )


def _file_lifetime(request: CreateUpload) -> int | None:
    if request.expires_after is not None:
        return request.expires_after.seconds
    return BATCH_EXPIRY if request.purpose == "batch" else None


def _find(context: Context, upload_id: str) -> UploadRow:
    row = context.store.uploads.get(upload_id)
    if row is None:
        raise NotFound(f"No such Upload object: {upload_id}", param="upload_id")
    return row
