"""A file's bytes as an answer, whole or a range of them.

From the disk or from object storage.
"""

import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from email.utils import formatdate
from itertools import chain

from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse

from tunesmith.errors import NotFound
from tunesmith.store import Blob, FileRow
from tunesmith.store.objects.blobs import BlobStore

Reader = Callable[[int, int], Iterator[bytes]]  # from a place to before another

MEDIA_TYPE = "application/octet-stream"
RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")  # one range; a request for several gets the whole file


def stored_content(request: Request, blobs: BlobStore, row: FileRow, *, base64: bool) -> Response:
    """The content of a file. Raises NotFound where its bytes have gone."""
    blob = Blob(row.id, row.bytes, row.sha256)
    if base64:
        return StreamingResponse(map(b64encode, _started(blobs, blob, 0, row.bytes)), media_type=MEDIA_TYPE)
    path = blobs.cached(row.id)
    if not blobs.is_cache:
        return FileResponse(blobs.path(row.id), filename=row.filename, media_type=MEDIA_TYPE)
    # A client that resumes may meet another server, whose copy has another time.
    same = {"etag": f'"{row.sha256}"', "last-modified": formatdate(row.created_at, usegmt=True)}
    if path is not None:
        return FileResponse(path, filename=row.filename, media_type=MEDIA_TYPE, headers=same)
    shown = FileResponse("", filename=row.filename).headers["content-disposition"]
    headers = {**same, "content-disposition": shown}
    return streamed(request.headers, blob.bytes, lambda start, end: _started(blobs, blob, start, end), headers)


def streamed(asked: Mapping[str, str], size: int, read: Reader, headers: dict[str, str]) -> Response:
    """`size` bytes, or the range of them that `asked`, the request's headers, name.

    `headers` have an etag and the time of the last change.
    """
    headers["accept-ranges"] = "bytes"
    found = RANGE.fullmatch(asked.get("range", "").strip())
    if found is None or found.groups() == ("", "") or _is_outdated(asked.get("if-range"), headers):
        headers["content-length"] = str(size)
        return StreamingResponse(read(0, size), headers=headers, media_type=MEDIA_TYPE)
    start, end = _bounds(found[1], found[2], size)
    if start >= end:
        return Response(status_code=416, headers={"content-range": f"bytes */{size}"})
    headers |= {"content-length": str(end - start), "content-range": f"bytes {start}-{end - 1}/{size}"}
    return StreamingResponse(read(start, end), 206, headers=headers, media_type=MEDIA_TYPE)


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    """Start and end (exclusive) of a range; `-n` are the last n bytes."""
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size


def _is_outdated(condition: str | None, headers: Mapping[str, str]) -> bool:
    return condition is not None and condition not in (headers["etag"], headers["last-modified"])


def _started(blobs: BlobStore, blob: Blob, start: int, end: int) -> Iterator[bytes]:
    """The bytes; the first are read already, so that an error is an answer and not a broken stream."""
    chunks = blobs.read(blob, start, end)
    try:
        first = next(chunks, b"")
    except FileNotFoundError:
        raise NotFound(f"No such File object: {blob.id}", param="id") from None
    return chain((first,), chunks)
