"""The store: every SQL statement and every byte on disk.

Each method is one transaction and returns frozen rows.

What is not covered: validating requests (api), what files contain (check), the contents of adapters (models).
"""

from tunesmith.store.objects.aliases import read_aliases
from tunesmith.store.objects.idempotency import CreateRequest
from tunesmith.store.queue.job_files import JobFiles
from tunesmith.store.queue.leases import LeaseLost
from tunesmith.store.queue.progress import Logged
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
    "Logged",
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
    "read_aliases",
]
