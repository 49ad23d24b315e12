"""Every SQL statement and every byte on disk. Each method is one transaction and returns frozen rows.

What is not covered: request validation (api), the meaning of files (data), adapters' contents (models).
"""

from tunesmith.store.objects.idempotency import CreateRequest
from tunesmith.store.queue.job_files import JobFiles
from tunesmith.store.queue.leases import LeaseLost
from tunesmith.store.rows import (
    ACTIVE,
    Blob,
    ChatRow,
    CheckpointRow,
    EventRow,
    FileRow,
    JobOutcome,
    JobRow,
    JobStatus,
    KeyRow,
    Lease,
    ListedModel,
    ModelRow,
    NewCheckpoint,
    NewEvent,
    NewFile,
    NewJob,
    NewUpload,
    Page,
    PartRow,
    PermissionRow,
    ProjectRow,
    ResolvedModel,
    Role,
    UploadRow,
)
from tunesmith.store.store import ScopedStore, Store, open_store

__all__ = [
    "ACTIVE",
    "Blob",
    "ChatRow",
    "CheckpointRow",
    "CreateRequest",
    "EventRow",
    "FileRow",
    "JobFiles",
    "JobOutcome",
    "JobRow",
    "JobStatus",
    "KeyRow",
    "Lease",
    "LeaseLost",
    "ListedModel",
    "ModelRow",
    "NewCheckpoint",
    "NewEvent",
    "NewFile",
    "NewJob",
    "NewUpload",
    "Page",
    "PartRow",
    "PermissionRow",
    "ProjectRow",
    "ResolvedModel",
    "Role",
    "ScopedStore",
    "Store",
    "UploadRow",
    "open_store",
]
