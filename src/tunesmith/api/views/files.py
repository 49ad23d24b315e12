"""Files, uploads and their parts as the wire shows them.

Every key is there, in the recorded order.
"""

from typing import cast

from tunesmith.store import FileRow, PartRow, UploadRow
from tunesmith.wire.files import File, FilePurpose, Upload, UploadPart


def file_json(row: FileRow) -> File:
    """A file."""
    return {
        "object": "file",
        "id": row.id,
        "purpose": cast(FilePurpose, row.purpose),
        "filename": row.filename,
        "bytes": row.bytes,
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "status": row.status,
        "status_details": row.status_details,
    }


def upload_json(row: UploadRow, file: FileRow | None = None) -> Upload:
    """An upload; `file` is absent until there is one."""
    body: Upload = {
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


def part_json(row: PartRow) -> UploadPart:
    """A part of an upload."""
    return {"id": row.id, "object": "upload.part", "created_at": row.created_at, "upload_id": row.upload_id}
