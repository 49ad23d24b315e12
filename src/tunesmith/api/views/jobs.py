"""Jobs, events and checkpoints as the wire shows them.

Every key is there, in the recorded order.
"""

from typing import cast

from tunesmith.jsonvalue import JsonObject
from tunesmith.store import CheckpointRow, EventRow, JobRow
from tunesmith.wire.jobs import Checkpoint, Event, Job, JobError, JobMethod, TunedHyperparameters
from tunesmith.wire.lists import Anything

SHOWN = ("n_epochs", "batch_size", "learning_rate_multiplier")  # the order in `hyperparameters`
EVENT_TYPES = ("message", "metrics")  # OpenAI's published ones
MIRRORED = ("batch_size", "learning_rate_multiplier", "n_epochs", "beta")  # the order in `method`


def job_json(row: JobRow) -> Job:
    """A job: OpenAI's 23 keys, and our own at the end."""
    return {
        "object": "fine_tuning.job",
        "id": row.id,
        "model": row.model,
        "created_at": row.created_at,
        "finished_at": row.finished_at,
        "fine_tuned_model": row.fine_tuned_model,
        "organization_id": row.organization_id,
        "result_files": list(row.result_files),
        "status": row.status.value,
        "validation_file": row.validation_file,
        "training_file": row.training_file,
        "hyperparameters": cast(TunedHyperparameters, _picked(row.hyperparameters, SHOWN)),
        "trained_tokens": row.trained_tokens,
        "error": cast(JobError | None, row.error),  # null, since `{}` would look like a failure to code of 2023
        "user_provided_suffix": row.user_provided_suffix,
        "seed": row.seed,
        "estimated_finish": row.estimated_finish,
        "integrations": cast(list[Anything], list(row.integrations)),
        "metadata": row.metadata,
        "usage_metrics": None,
        "shared_with_openai": False,
        "eval_id": None,
        "method": _method(row),
        "tunesmith": cast(Anything, {**row.options, **({"paused": True} if _waits(row) else {})}),
    }


def _waits(row: JobRow) -> bool:
    """Whether the job is paused. OpenAI's `status` has no word for it and says `queued`."""
    return row.paused and not row.status.finished


def event_json(row: EventRow) -> Event:
    """An event. A `type` of our own is shown as `message`.

    A client with OpenAI's two types as an enum would fail on a third.
    """
    published = row.type in EVENT_TYPES
    return {
        "object": "fine_tuning.job.event",
        "id": row.id,
        "created_at": row.created_at,
        "level": row.level,
        "message": row.message,
        "data": cast(Anything | None, row.data) if published else {"type": row.type, **(row.data or {})},
        "type": row.type if published else "message",
    }


def checkpoint_json(row: CheckpointRow, job: JobRow) -> Checkpoint:
    """Metrics say of which method they are."""
    return {
        "object": "fine_tuning.job.checkpoint",
        "id": row.id,
        "created_at": row.created_at,
        "fine_tuned_model_checkpoint": row.fine_tuned_model_checkpoint,
        "fine_tuning_job_id": row.job_id,
        "metrics": {**row.metrics, "step": row.step_number, "type": method_type(job)},
        "step_number": row.step_number,
    }


def method_type(row: JobRow) -> str:
    """The method's name: `supervised` or `dpo`."""
    return str(row.method["type"])


def _method(row: JobRow) -> JobMethod:
    """`method` mirrors the numbers that validation put into `hyperparameters`."""
    kind = method_type(row)
    settings = cast(JsonObject, row.method.get(kind) or {})
    requested = cast(JsonObject, settings.get("hyperparameters") or {})
    mirrored = _picked({**requested, **row.hyperparameters}, MIRRORED)
    return cast(JobMethod, {"type": kind, kind: {**settings, "hyperparameters": mirrored}})


def _picked(values: JsonObject, names: tuple[str, ...]) -> JsonObject:
    return {name: values[name] for name in names if name in values}
