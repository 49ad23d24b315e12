"""Reads what a user exported from OpenAI's fine-tuning: a folder of files.

Nothing is guessed.

    jobs.json                  client.fine_tuning.jobs.list(): a list, a page ({"data": [...]}) or one job a line
    files.json                 client.files.list(), the same forms
    files/FILE_ID              the bytes of a file; `.jsonl` or `.csv` may follow the id
    events/JOB_ID.json         the job's events, newest first
    checkpoints/JOB_ID.json    its checkpoints, newest first

Only jobs.json must be there. `examples/export_openai.py` writes this folder.
"""

import base64
import binascii
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError  # our JsonValue's twin, which it can read

from tunesmith.errors import DataError
from tunesmith.jsonvalue import JsonObject
from tunesmith.rows.json_faults import document_fault
from tunesmith.rows.parse import BrokenLine
from tunesmith.rows.raw_row import RawRow, iter_rows

JobId = Annotated[str, Field(pattern=r"^ftjob-[0-9A-Za-z]{8,64}$")]
FileId = Annotated[str, Field(pattern=r"^file-[0-9A-Za-z]{16,64}$")]
Seconds = Annotated[int, Field(ge=0, le=10**11)]
R = TypeVar("R", bound=BaseModel)

CONTENT_ENDINGS = ("", ".jsonl", ".csv")


class Exported(BaseModel):
    """What all exported objects share."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


class ExportedFile(Exported):
    """A file; its bytes are in the folder `files`."""

    id: FileId
    filename: str
    purpose: str
    created_at: Seconds
    bytes: int | None = None


class ExportedJob(Exported):
    """An exported job; `error: {}` means none, as in OpenAI's answers since 2024."""

    id: JobId
    model: str
    created_at: Seconds
    finished_at: Seconds | None = None
    fine_tuned_model: str | None = None
    organization_id: str = ""
    result_files: list[FileId] = []
    status: Literal["validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"]
    training_file: FileId
    validation_file: FileId | None = None
    hyperparameters: dict[str, JsonValue] | None = None
    trained_tokens: int | None = None
    error: dict[str, JsonValue] | None = None
    user_provided_suffix: str | None = None
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = None
    integrations: list[JsonValue] | None = None
    metadata: dict[str, str] | None = None
    method: dict[str, JsonValue] | None = None

    @property
    def finished(self) -> bool:
        """Whether the job has ended."""
        return self.status in ("succeeded", "failed", "cancelled")

    @property
    def method_type(self) -> str:
        """The training method; jobs of before 2024 have none and are supervised."""
        return str((self.method or {}).get("type") or "supervised")

    @property
    def numbers(self) -> JsonObject:
        """The hyperparameters, from the method's place and the old one together."""
        part = (self.method or {}).get(self.method_type)
        nested = part.get("hyperparameters") if isinstance(part, dict) else None
        own: JsonObject = dict(nested) if isinstance(nested, dict) else {}
        given = {**own, **{name: value for name, value in (self.hyperparameters or {}).items() if value is not None}}
        return {name: value for name, value in given.items() if value is not None}


class ExportedEvent(Exported):
    """One event of a job."""

    id: Annotated[str, Field(pattern=r"^ftevent-[0-9A-Za-z-]{8,64}$")]
    created_at: Seconds
    level: Literal["info", "warn", "error"] = "info"
    message: str
    type: Literal["message", "metrics", "moderation_checks"] = "message"
    data: dict[str, JsonValue] | None = None


class ExportedCheckpoint(Exported):
    """One checkpoint of a job."""

    id: Annotated[str, Field(pattern=r"^ftckpt_[0-9A-Za-z]{8,64}$")]
    created_at: Seconds
    fine_tuned_model_checkpoint: str
    step_number: int
    metrics: dict[str, JsonValue] = {}


@dataclass(frozen=True, slots=True)
class Export:
    """An exported folder."""

    folder: Path
    files: tuple[ExportedFile, ...]  # oldest first, as are the jobs
    jobs: tuple[ExportedJob, ...]

    def content(self, file_id: str) -> Path | None:
        """The path of the file's bytes; None when they were not exported.

        The id has the shape that `FileId` demands.
        """
        paths = (self.folder / "files" / f"{file_id}{ending}" for ending in CONTENT_ENDINGS)
        return next((path for path in paths if path.is_file()), None)

    def events(self, job_id: str) -> tuple[ExportedEvent, ...]:
        """The job's events, oldest first."""
        return _read(self.folder / "events" / f"{job_id}.json", ExportedEvent, needed=False)

    def checkpoints(self, job_id: str) -> tuple[ExportedCheckpoint, ...]:
        """The job's checkpoints, oldest first."""
        return _read(self.folder / "checkpoints" / f"{job_id}.json", ExportedCheckpoint, needed=False)


def read_export(folder: Path) -> Export:
    """Raises DataError with the file, the entry and the field that is wrong."""
    jobs = _read(folder / "jobs.json", ExportedJob, needed=True)
    return Export(folder, _read(folder / "files.json", ExportedFile, needed=False), jobs)


def plain_csv(content: bytes) -> bytes:
    """OpenAI serves result files in base64 since 2024; here they are plain."""
    try:
        decoded = base64.b64decode(content, validate=True)
    except binascii.Error:
        return content
    return decoded if decoded.startswith(b"step,") else content


def _read(path: Path, kind: type[R], *, needed: bool) -> tuple[R, ...]:
    """Entries oldest first: OpenAI lists the newest first, and ids tell no order."""
    if not path.is_file() and not needed:
        return ()
    try:
        rows = list(_entries(path))
    except FileNotFoundError:
        raise DataError(
            f"{path} does not exist. Write the folder with examples/export_openai.py, or dump"
            " client.fine_tuning.jobs.list() there as JSON."
        ) from None
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is not JSON: {document_fault(error.doc, error)}. Export it again.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start + 1:,}). Export it again.") from error
    except ValueError as error:
        raise DataError(f"{path}: {error}. Export it again.") from error
    return tuple(reversed([_one(kind, row, path, number) for number, row in enumerate(rows, start=1)]))


def _entries(path: Path) -> Iterator[JsonValue]:
    try:
        value: JsonValue = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError:
        rows = list(iter_rows(path))
        if len(rows) < 2 or not _is_json(rows[0]):
            raise
        yield from (_value(row, path) for row in rows)
        return
    if isinstance(value, dict):
        value = value.get("data") if value.get("object", "list") == "list" else [value]
    if not isinstance(value, list):
        raise ValueError("it holds neither a list nor a page with a list under 'data'")
    yield from value


def _is_json(row: RawRow) -> bool:
    """Whether the file has a job a line, rather than one value over several lines."""
    try:
        row.value()
    except BrokenLine:
        return False
    return True


def _value(row: RawRow, path: Path) -> JsonValue:
    try:
        return row.value()
    except BrokenLine as broken:
        raise DataError(f"{path}, line {row.line}: {broken.fault.message} Export it again.") from broken


def _one(kind: type[R], row: JsonValue, path: Path, number: int) -> R:
    try:
        return kind.model_validate(row)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"]) or "the entry"
        raise DataError(
            f"{path}, entry {number}: {where} is {fault['input']!r:.80}: {_sentence(fault['msg'])}. Export it again, or"
            " take the entry out."
        ) from error


def _sentence(message: str) -> str:
    """pydantic's message as the end of a sentence; a pattern in it keeps its capitals."""
    return message[:1].lower() + message[1:]
