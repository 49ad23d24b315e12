"""The store as one object: `open_store(settings)` brings the schema up to date and sweeps what a crash left."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tunesmith.errors import TunesmithError
from tunesmith.jsonvalue import JsonObject
from tunesmith.settings import Settings
from tunesmith.store.rows import (
    Blob,
    CheckpointRow,
    EventRow,
    FileRow,
    FileStatus,
    JobRow,
    JobStatus,
    KeyRow,
    Lease,
    ModelRow,
    NewCheckpoint,
    NewEvent,
    NewJob,
    Order,
    Outcome,
    Page,
    ResolvedModel,
)


class LeaseLost(TunesmithError):
    """A write by a worker that no longer holds the job. `code`: cancelled, paused, taken or finished."""


class BlobStore(Protocol):
    def write(self, chunks: Iterable[bytes], *, max_bytes: int | None = None) -> Blob:
        """Stream to disk under a new file id: temporary name, hash, fsync, rename. InvalidRequest over `max_bytes`."""

    def path(self, file_id: str) -> Path: ...
    def delete(self, file_id: str) -> None: ...


class FileStore(Protocol):
    def create(
        self,
        blob: Blob,
        *,
        purpose: str,
        filename: str,
        status: FileStatus = "uploaded",
        status_details: str | None = None,
        report: JsonObject | None = None,
        expires_at: int | None = None,
        project: str = "default",
    ) -> FileRow: ...
    def set_status(
        self, file_id: str, status: FileStatus, *, details: str | None = None, report: JsonObject | None = None
    ) -> FileRow | None:
        """None: the file was deleted meanwhile."""

    def get(self, file_id: str) -> FileRow | None:
        """None: never was, deleted or expired."""

    def page(
        self, *, purpose: str | None = None, limit: int = 10_000, after: str | None = None, order: Order = "desc"
    ) -> Page[FileRow]:
        """An unknown `after` gives an empty page; a deleted file still serves as `after`."""

    def unchecked(self) -> list[FileRow]:
        """Files whose check never ended (the process died): check them at start."""

    def delete(self, file_id: str) -> bool:
        """False: there is no such file."""


class JobStore(Protocol):
    # the API's side
    def create(self, job: NewJob) -> JobRow:
        """The row and `Created fine-tuning job: …`, in one transaction."""

    def get(self, job_id: str) -> JobRow | None: ...
    def page(
        self,
        *,
        limit: int = 20,
        after: str | None = None,
        metadata: dict[str, str] | None = None,
        without_metadata: bool = False,
    ) -> Page[JobRow]:
        """Newest first. `metadata`: all pairs match; `without_metadata`: jobs whose metadata is null."""

    def cancel(self, job_id: str) -> JobRow:
        """`cancelled` at once, in any active state; the worker's next write is refused and it stops the trainer.

        NotFound fine_tune_not_found; InvalidRequest when the job has finished.
        """

    def pause(self, job_id: str) -> JobRow:
        """Back to `queued`, not claimable until `resume`. Errors as `cancel`."""

    def resume(self, job_id: str) -> JobRow: ...
    def events(self, job_id: str, *, limit: int = 20, after: str | None = None) -> Page[EventRow]:
        """Newest first. An unknown job has none: ask `get` first."""

    def checkpoints(self, job_id: str, *, limit: int = 10, after: str | None = None) -> Page[CheckpointRow]:
        """Newest first."""

    # the worker's side: LeaseLost when the lease is no longer held
    def claim(self, worker: str, statuses: Sequence[JobStatus], lease_seconds: float) -> tuple[JobRow, Lease] | None:
        """The oldest job in `statuses` that nobody holds; attempt += 1."""

    def renew(self, lease: Lease, lease_seconds: float) -> None: ...
    def release(self, lease: Lease) -> None: ...
    def append(self, lease: Lease, events: Sequence[NewEvent], *, relayed: tuple[int, int] | None = None) -> None: ...
    def add_checkpoint(self, lease: Lease, checkpoint: NewCheckpoint, *, keep: int = 3) -> CheckpointRow: ...
    def set_status(
        self,
        lease: Lease,
        status: JobStatus,
        events: Sequence[NewEvent] = (),
        *,
        hyperparameters: JsonObject | None = None,
    ) -> JobRow: ...
    def set_progress(self, lease: Lease, *, total_steps: int, estimated_finish: int | None) -> None: ...
    def finish(self, lease: Lease, outcome: Outcome) -> JobRow: ...
    def fail(self, lease: Lease, *, code: str, message: str, param: str | None = None) -> JobRow: ...
    def metrics(self, job_id: str) -> list[JsonObject]:
        """The data of every metrics event, by step."""


class ModelStore(Protocol):
    def resolve(self, name: str) -> ResolvedModel | None:
        """Tuned models and kept checkpoints. None: unknown or deleted."""

    def get(self, name: str) -> ModelRow | None: ...
    def all(self) -> list[ModelRow]: ...
    def delete(self, name: str) -> bool:
        """False: there is no such tuned model. Its adapter files go when nothing else names them."""


class KeyStore(Protocol):
    def ensure_first(self, path: Path) -> str | None:
        """At the very first start: make a key, write it to `path` (0600) and return it to be printed once."""

    def create(self, name: str, *, project: str = "default") -> tuple[str, KeyRow]:
        """The raw key (shown once, never stored) and its row."""

    def verify(self, raw_key: str) -> KeyRow | None: ...
    def all(self) -> list[KeyRow]: ...
    def revoke(self, key_id: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class Store:
    blobs: BlobStore
    files: FileStore
    jobs: JobStore
    models: ModelStore
    keys: KeyStore
    close: Callable[[], None]


def open_store(settings: Settings) -> Store:
    """Create the data directory, migrate, sweep. Any number of processes may do this at once."""
    raise NotImplementedError
