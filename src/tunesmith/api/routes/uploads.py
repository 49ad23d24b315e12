"""/v1/uploads: a file in parts, if it is too large or slow for one request.

Source of the shapes: OpenAI's description.

The finished file is checked as one that came through POST /v1/files, and has the same statuses.
"""

from collections.abc import Iterator
from functools import partial
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Body, Request

from tunesmith.api.background.file_checks import ChecksDep
from tunesmith.api.http.body import JsonRoute, announced_bytes, body_chunks, upload_threads
from tunesmith.api.http.context import Context, ContextDep, KeyDep
from tunesmith.api.http.disk_room import demand_disk, demand_room
from tunesmith.api.http.idempotency import IdempotencyDep
from tunesmith.api.http.json_answers import JSONAnswer
from tunesmith.api.http.multipart import UploadForm, shown_name
from tunesmith.api.http.rules import rule
from tunesmith.api.views.files import part_json, upload_json
from tunesmith.errors import InvalidRequest, NotFound
from tunesmith.store import NewUpload, PartRow, UploadRow
from tunesmith.store.objects.blobs import limited
from tunesmith.wire.body import read
from tunesmith.wire.faults import shown
from tunesmith.wire.files import BATCH_EXPIRY, CompleteUpload, CreateUpload, PartForm, Upload

router = APIRouter(prefix="/v1/uploads", tags=["uploads"], route_class=JsonRoute)

JSONL_TYPES = (
    "text/jsonl",
    "application/jsonl",
    "application/x-ndjson",
    "application/json",
    "application/octet-stream",
)


@router.post("")
@rule("member")
def create_upload(
    request: Annotated[CreateUpload, Body()], context: ContextDep, key: KeyDep, idempotency: IdempotencyDep
) -> JSONAnswer:
    """Starts an upload. Raises InvalidRequest for one that no file can come of."""
    _demand_fit(request, context.settings.max_upload_bytes)
    demand_room(context, request.bytes)
    upload = NewUpload(
        filename=shown_name(request.filename),
        purpose=request.purpose,
        bytes=request.bytes,
        mime_type=request.mime_type,
        file_lifetime=_file_lifetime(request),
        project=key.project,
    )
    creation = idempotency.creation("upload", key, request.model_dump(mode="json")) if idempotency.key else None
    seconds = context.settings.upload_seconds
    return JSONAnswer(upload_json(context.store.uploads.create(upload, seconds=seconds, request=creation)))


@router.get("/{upload_id}")
@rule("read-only")
def retrieve_upload(upload_id: str, context: ContextDep) -> JSONAnswer:
    """One upload. This call is ours: OpenAI has none like it."""
    return JSONAnswer(upload_json(_find(context, upload_id)))


@router.post("/{upload_id}/parts")
@rule("member", limit="uploads")
async def add_part(upload_id: str, request: Request, context: ContextDep) -> JSONAnswer:
    """Stores one part; its place in the file is given when the upload completes."""
    row = await to_thread.run_sync(
        partial(_add_part, upload_id, request, context), limiter=upload_threads(context.project)
    )
    return JSONAnswer(part_json(row))


@router.post("/{upload_id}/complete")
@rule("member")
async def complete_upload(
    upload_id: str, request: Annotated[CompleteUpload, Body()], context: ContextDep, checks: ChecksDep
) -> JSONAnswer:
    """Joins the parts to a file and checks it.

    Writing gigabytes takes time, so this runs in the threads of uploads.
    """

    def work() -> Upload:
        demand_disk(context.settings, _find(context, upload_id).bytes)  # the parts are there until the file is
        upload, file = context.store.uploads.complete(upload_id, request.part_ids, request.md5)
        file = None if file is None else checks.submit(file)
        return upload_json(upload, file)

    return JSONAnswer(await to_thread.run_sync(work, limiter=upload_threads(context.project)))


@router.post("/{upload_id}/cancel")
@rule("member")
def cancel_upload(upload_id: str, context: ContextDep) -> JSONAnswer:
    """Cancels an upload and removes its parts."""
    return JSONAnswer(upload_json(context.store.uploads.cancel(upload_id)))


def _add_part(upload_id: str, request: Request, context: Context) -> PartRow:
    settings, upload = context.settings, _find(context, upload_id)
    demand_disk(settings, announced_bytes(request))
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
    read(PartForm, {**form.fields, "data": form.filename} if form.filename else {**form.fields})
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
