"""What the store returns: frozen rows, and the states of a job.

Times are Unix seconds, as on the wire. The column `seq` never leaves the store: pages are cut by id.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Generic, Literal, TypeVar

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.store.evals.rows import FinishedEval

T = TypeVar("T")

FileStatus = Literal["uploaded", "processed", "error"]
UploadStatus = Literal["pending", "completed", "cancelled", "expired"]
EventLevel = Literal["info", "warn", "error"]
EventType = Literal["message", "metrics", "moderation_checks"]
Order = Literal["asc", "desc"]
Role = Literal["owner", "member", "read-only"]  # `api.middleware.roles` says what each may do

FIRST_PROJECT = "default"  # there from the start


class JobStatus(StrEnum):
    """The states of a job, in OpenAI's words, each with its successors."""

    VALIDATING = "validating_files"  # -> queued | failed | cancelled
    QUEUED = "queued"  #                -> running | failed | cancelled   (pause keeps it here)
    RUNNING = "running"  #              -> succeeded | failed | cancelled | queued (pause)
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        """Whether no state follows."""
        return not TRANSITIONS[self]


TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    JobStatus.VALIDATING: frozenset({JobStatus.QUEUED, JobStatus.FAILED, JobStatus.CANCELLED}),
    JobStatus.QUEUED: frozenset({JobStatus.RUNNING, JobStatus.FAILED, JobStatus.CANCELLED}),
    JobStatus.RUNNING: frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.QUEUED}),
    JobStatus.SUCCEEDED: frozenset(),
    JobStatus.FAILED: frozenset(),
    JobStatus.CANCELLED: frozenset(),
}
ACTIVE = tuple(status for status, following in TRANSITIONS.items() if following)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list.

    `has_more`: asking again with `after` set to the last id returns at least one more row.
    """

    data: tuple[T, ...]
    has_more: bool


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes on disk under an id, complete and synced, that no row refers to yet."""

    id: str  # the file id that `files.create` will give them
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class FileRow:
    """A file; its bytes are the blob of the same id."""

    id: str
    purpose: str
    filename: str
    bytes: int
    sha256: str
    created_at: int
    expires_at: int | None
    status: FileStatus
    status_details: str | None
    project: str


@dataclass(frozen=True, slots=True)
class NewFile:
    """What `files.create` needs besides the bytes.

    `report` is what `check.file_check` found, if it has already run.
    """

    purpose: str
    filename: str
    status: FileStatus = "uploaded"
    status_details: str | None = None
    report: JsonObject | None = None
    expires_at: int | None = None
    project: str = FIRST_PROJECT


@dataclass(frozen=True, slots=True)
class NewUpload:
    """A file that will arrive in parts.

    `file_lifetime` is the time from its completion to its expiry, in seconds.
    """

    filename: str
    purpose: str
    bytes: int
    mime_type: str
    file_lifetime: int | None = None
    project: str = FIRST_PROJECT


@dataclass(frozen=True, slots=True)
class UploadRow:
    """An upload in parts; `file_id` is set once it is completed."""

    id: str
    filename: str
    purpose: str
    bytes: int
    mime_type: str
    file_lifetime: int | None
    created_at: int
    expires_at: int
    status: UploadStatus
    file_id: str | None
    part_ids: tuple[str, ...] | None
    project: str


@dataclass(frozen=True, slots=True)
class PartRow:
    """One part of an upload."""

    id: str
    upload_id: str
    created_at: int
    bytes: int


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job: first what the wire shows, then what only the worker needs.

    Not columns because they never vary here: `object`, `usage_metrics` and `eval_id` (null), `shared_with_openai`
    (false).
    """

    id: str
    model: str  # the resolved base, or the tuned model it continues from
    created_at: int
    finished_at: int | None
    fine_tuned_model: str | None
    organization_id: str
    result_files: tuple[str, ...]
    status: JobStatus
    validation_file: str | None
    training_file: str
    hyperparameters: JsonObject  # "auto" until validated, numbers afterwards
    trained_tokens: int | None
    error: JsonObject | None  # {code, param, message}
    user_provided_suffix: str | None
    seed: int
    estimated_finish: int | None
    integrations: tuple[JsonValue, ...]
    metadata: dict[str, str] | None
    method: JsonObject  # {"type": "supervised", "supervised": {"hyperparameters": {...}}}

    project: str
    key_id: str | None  # the key that created it; its usage is counted there
    base_model: str  # root base, also where `model` is itself tuned
    planned_model: str  # what fine_tuned_model will be
    options: JsonObject  # server-side extras of the request (extra_body), {} when none
    worker: str | None
    lease_until: float | None
    attempt: int
    paused: bool
    last_step: int  # highest step reported as an event, 0 = none
    total_steps: int | None


@dataclass(frozen=True, slots=True)
class NewJob:
    """The fields that `jobs.create` needs.

    The caller has resolved the model and checked that the files exist.
    """

    model: str
    base_model: str
    training_file: str
    organization: str  # slug, as in `ft:` names
    seed: int
    hyperparameters: JsonObject
    method: JsonObject
    validation_file: str | None = None
    suffix: str | None = None
    integrations: tuple[JsonValue, ...] = ()
    metadata: dict[str, str] | None = None
    options: JsonObject = field(default_factory=dict)
    project: str = FIRST_PROJECT
    key_id: str | None = None


@dataclass(frozen=True, slots=True)
class EventRow:
    """An event of a job, as on the wire."""

    id: str
    job_id: str
    created_at: int
    level: EventLevel
    message: str
    type: EventType
    data: JsonObject | None  # null and {} differ on the wire


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to append.

    `step` marks a metrics event: the store drops one whose step was reported before.
    """

    message: str
    level: EventLevel = "info"
    type: EventType = "message"
    data: JsonObject | None = field(default_factory=dict)
    step: int | None = None


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """A checkpoint of a job, as on the wire."""

    id: str
    job_id: str
    created_at: int
    fine_tuned_model_checkpoint: str
    step_number: int
    metrics: JsonObject


@dataclass(frozen=True, slots=True)
class NewCheckpoint:
    """A checkpoint whose manifest is on disk.

    `adapter_dir` lies inside the data directory.
    """

    step: int
    adapter_dir: Path
    metrics: JsonObject


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A tuned model (`step` None) or a checkpoint that was kept."""

    name: str
    base_model: str
    job_id: str
    step: int | None
    adapter_dir: Path
    created_at: int
    owned_by: str
    project: str
    display: str | None = None  # what people call it; "": nothing; None: see `export.cards.display_name`


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model as lists show it: there may be thousands, and they have no pages."""

    name: str
    step: int | None
    created_at: int
    owned_by: str


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """What serving needs to open a model."""

    name: str
    base_model: str
    adapter_dir: Path | None
    created: int
    owned_by: str


@dataclass(frozen=True, slots=True)
class ChatRow:
    """A stored chat completion: `body` is the answer, `messages` are the request's."""

    id: str
    model: str
    requested_model: str  # may be an alias of `model`
    created_at: int
    body: JsonObject
    messages: tuple[JsonValue, ...]
    metadata: dict[str, str]
    project: str


@dataclass(frozen=True, slots=True)
class PermissionRow:
    """Another project's permission to use a model.

    It may see the model, chat with it and train it further, but neither delete it nor share it.
    """

    id: str
    model: str
    project_id: str
    created_at: int


@dataclass(frozen=True, slots=True)
class ProjectRow:
    """A project; `archived_at` None: active."""

    id: str
    name: str
    created_at: int
    archived_at: int | None


@dataclass(frozen=True, slots=True)
class KeyRow:
    """An API key without its secret; `hint` is its last four characters."""

    id: str
    name: str
    hint: str
    project: str  # an owner's key may act in every project of the organization, by default in this one
    role: Role
    created_at: int
    expires_at: int | None
    last_used_at: int | None
    revoked_at: int | None


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write to a job.

    Refused once another worker, a cancellation or a pause has taken the job away.
    """

    job_id: str
    worker: str
    attempt: int


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """What a finished training run produced.

    The store writes it in one transaction with the status.
    """

    adapter_dir: Path
    trained_tokens: int
    result: Blob | None
    result_name: str = "step_metrics.csv"
    events: Sequence[NewEvent] = ()
    evaluation: Blob | None = None
    verdict: JsonObject | None = None  # what the job shows of its evaluation
    eval: FinishedEval | None = None  # which says the same on the wire


@dataclass(frozen=True, slots=True)
class Counts:
    """Counters of requests and training jobs; columns of the table `usage`."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0  # of the prompt's
    completion_tokens: int = 0
    trained_tokens: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(getattr(self, name) + getattr(other, name) for name in COUNTERS))


COUNTERS = tuple(counter.name for counter in fields(Counts))
