"""Objects created elsewhere, imported with the ids and times they have there.

What already exists here stays as it is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Table, insert, select

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.store.objects.blobs import BlobStore
from tunesmith.store.objects.models import NO_WEIGHTS
from tunesmith.store.queue.jobs import insert_pairs
from tunesmith.store.rows import EventLevel, EventType, JobStatus
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


class ImportStore:
    """Writes imported objects."""

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs

    def add_file(self, file: ImportedFile, chunks: Iterable[bytes]) -> bool:
        """Return False, and write nothing, when the id is or was known here."""
        with self._database.read() as connection:
            if _has(connection, file.id):
                return False
        blob = self._blobs.write(chunks, file_id=file.id)
        values = {
            "id": file.id,
            "purpose": file.purpose,
            "filename": file.filename,
            "bytes": blob.bytes,
            "sha256": blob.sha256,
            "created_at": file.created_at,
            "status": "processed",
            "project": file.project,
        }
        with self._database.write() as connection:
            if fresh := not _has(connection, file.id):
                connection.execute(insert(files).values(values))
        self._blobs.claim(blob)
        return fresh

    def add_job(self, job: ImportedJob, history: Sequence[ImportedEvent], kept: Sequence[ImportedCheckpoint]) -> bool:
        """Add a job, its events (oldest first), checkpoints and models at once.

        The models have no weights. False: the job is already here.
        """
        with self._database.write() as connection:
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
