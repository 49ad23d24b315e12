"""Objects created elsewhere, imported with the ids and times they have there.

What already exists here stays as it is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from sqlalchemy import Connection, Table, insert, select

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.store.objects.blobs import BlobStore
from tunesmith.store.objects.models import NO_WEIGHTS
from tunesmith.store.queue.jobs import insert_pairs
from tunesmith.store.rows import Blob, EventLevel, EventType, JobStatus
from tunesmith.store.schema.db import Database
from tunesmith.store.schema.tables import checkpoints, events, files, jobs, models


@dataclass(frozen=True, slots=True)
class ImportedFile:
    """A file of an export."""

    id: str
    filename: str
    purpose: str
    created_at: int
    project: str


@dataclass(frozen=True, slots=True)
class ImportedEvent:
    """An event of an imported job."""

    id: str
    created_at: int
    level: EventLevel
    message: str
    type: EventType
    data: JsonObject | None


@dataclass(frozen=True, slots=True)
class ImportedCheckpoint:
    """A checkpoint of an imported job; its weights are not available."""

    id: str
    created_at: int
    model: str
    step: int
    metrics: JsonObject


@dataclass(frozen=True, slots=True)
class ImportedJob:
    """A job that has ended. `base_model`: what its models are based on here."""

    id: str
    model: str
    created_at: int
    finished_at: int | None
    fine_tuned_model: str | None
    organization_id: str
    result_files: Sequence[str]
    status: JobStatus
    training_file: str
    validation_file: str | None
    hyperparameters: JsonObject
    trained_tokens: int | None
    error: JsonObject | None
    user_provided_suffix: str | None
    seed: int
    integrations: Sequence[JsonValue]
    metadata: dict[str, str] | None
    method: JsonObject
    project: str
    base_model: str
    owned_by: str
    source: str


FileAndBytes: TypeAlias = tuple[ImportedFile, Iterable[bytes]]
JobWithHistory: TypeAlias = tuple[ImportedJob, Sequence[ImportedEvent], Sequence[ImportedCheckpoint]]


class ImportStore:
    """Writes imported objects."""

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs

    def add(self, files: Iterable[FileAndBytes], jobs: Sequence[JobWithHistory]) -> set[str]:
        """Add all of an export, or nothing of it; returns the ids of what was not here.

        First come the bytes, which no row refers to yet (a sweep removes them if we are killed), then all rows in one
        transaction. What is or was known here stays as it is. Models get no weights.
        """
        with self._database.read() as connection:
            wanted = [(file, chunks) for file, chunks in files if not _has(connection, file.id)]
        blobs = [(file, self._blobs.write(chunks, file_id=file.id)) for file, chunks in wanted]
        with self._database.write() as connection:
            added = {file.id for file, blob in blobs if _insert_file(connection, file, blob)}
            added |= {job.id for job, history, kept in jobs if _insert_job(connection, job, history, kept)}
        for _, blob in blobs:
            self._blobs.claim(blob)
        return added


def _insert_file(connection: Connection, file: ImportedFile, blob: Blob) -> bool:
    if _has(connection, file.id):  # another import was faster
        return False
    values = {name: getattr(file, name) for name in file.__slots__}
    connection.execute(insert(files).values(**values, bytes=blob.bytes, sha256=blob.sha256, status="processed"))
    return True


def _insert_job(
    connection: Connection, job: ImportedJob, history: Sequence[ImportedEvent], kept: Sequence[ImportedCheckpoint]
) -> bool:
    """Inserts a job, its events (oldest first), checkpoints and models."""
    if connection.execute(select(jobs.c.seq).where(jobs.c.id == job.id)).first() is not None:
        return False
    inserted = connection.execute(insert(jobs).values(_job_values(job)).returning(jobs)).mappings().one()
    insert_pairs(connection, inserted, job.metadata or {})
    _insert_all(connection, events, [_columns(event) for event in history], job)
    _insert_all(connection, checkpoints, [_columns(checkpoint) for checkpoint in kept], job)
    _insert_models(connection, job, kept)
    return True


def _has(connection: Connection, file_id: str) -> bool:
    return connection.execute(select(files.c.seq).where(files.c.id == file_id)).first() is not None


def _columns(row: ImportedEvent | ImportedCheckpoint) -> dict[str, object]:
    return {name: getattr(row, name) for name in row.__slots__}


def _insert_all(connection: Connection, table: Table, rows: Sequence[dict[str, object]], job: ImportedJob) -> None:
    if rows:
        connection.execute(insert(table), [{**row, "job_id": job.id} for row in rows])


def _job_values(job: ImportedJob) -> dict[str, object]:
    same = {name: getattr(job, name) for name in job.__slots__ if name not in ("owned_by", "source")}
    return same | {
        "result_files": list(job.result_files),
        "integrations": list(job.integrations),
        "planned_model": job.fine_tuned_model or f"imported:{job.id}",  # unique, and never made
        "options": {"imported_from": job.source},
    }


def _insert_models(connection: Connection, job: ImportedJob, kept: Sequence[ImportedCheckpoint]) -> None:
    """Names that are already taken here keep their meaning."""
    steps: dict[str, int | None] = {point.model: point.step for point in kept}
    if job.fine_tuned_model is not None:
        steps[job.fine_tuned_model] = None
    taken = set(connection.execute(select(models.c.name).where(models.c.name.in_(steps))).scalars())
    rows: list[dict[str, object]] = [
        {
            "name": name,
            "base_model": job.base_model,
            "step": step,
            "adapter": NO_WEIGHTS,
            "created_at": job.finished_at or job.created_at,
            "owned_by": job.owned_by,
            "project": job.project,
        }
        for name, step in steps.items()
        if name not in taken
    ]
    _insert_all(connection, models, rows, job)
