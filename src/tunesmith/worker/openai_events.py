"""A trainer's events as events of a job, in OpenAI's words. Pure functions."""

from collections.abc import Iterable, Sequence

from tunesmith.jsonvalue import JsonObject
from tunesmith.store import CheckpointRow, NewEvent
from tunesmith.store.rows import EventLevel
from tunesmith.train.protocol.events import Checkpoint, Log, Step

STARTED = NewEvent("Fine-tuning job started", data=None)  # null there, {} in the others
COMPLETED = NewEvent("The job has successfully completed")

# OpenAI's keys come first in an event's data, then whatever else the trainer measures.
STEP_KEYS = (
    "step",
    "train_loss",
    "valid_loss",
    "total_steps",
    "full_valid_loss",
    "train_mean_token_accuracy",
    "valid_mean_token_accuracy",
    "full_valid_mean_token_accuracy",
)
LEVELS: dict[str, EventLevel] = {"info": "info", "warn": "warn", "error": "error"}
CSV_HEADER = "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"
CSV_KEYS = ("train_loss", "train_mean_token_accuracy", "valid_loss", "valid_mean_token_accuracy")


def step_event(step: Step) -> NewEvent:
    """The event `Step 290/303: training loss=0.00`, with the measures as its data."""
    text = f"Step {step.step}/{step.total_steps}: training loss={step.train_loss:.2f}"
    for loss, name in ((step.valid_loss, "validation loss"), (step.full_valid_loss, "full validation loss")):
        if loss is not None:
            text += f", {name}={loss:.2f}"
    measures = step.to_json()
    data: JsonObject = {key: measures[key] for key in STEP_KEYS if key in measures}
    data |= {key: value for key, value in measures.items() if key not in data and key != "type"}
    return NewEvent(text, type="metrics", data=data, step=step.step)


def log_event(log: Log) -> NewEvent:
    """A trainer's sentence as it is; an unknown level becomes info."""
    return NewEvent(log.message, level=LEVELS.get(log.level, "info"))


def checkpoint_metrics(checkpoint: Checkpoint) -> JsonObject:
    """A checkpoint's metrics as the wire has them, the step among them.

    Keys without a value are left out.
    """
    return {"step": checkpoint.step, **checkpoint.metrics}


def final_events(model: str, kept: Sequence[CheckpointRow]) -> list[NewEvent]:
    """The last events of a job.

    One per earlier kept checkpoint, oldest first, then the model, then the end.
    """
    earlier = [row for row in reversed(kept) if row.fine_tuned_model_checkpoint != model]
    return [
        *(
            NewEvent(
                f"Checkpoint created at step {row.step_number} with Snapshot ID: {row.fine_tuned_model_checkpoint}"
            )
            for row in earlier
        ),
        NewEvent(f"New fine-tuned model created: {model}"),
        COMPLETED,
    ]


def step_metrics_csv(metrics: Iterable[JsonObject]) -> bytes:
    """OpenAI's result file: five decimals, and blanks where nothing was measured."""
    rows = [",".join([str(data["step"]), *(_cell(data, key) for key in CSV_KEYS)]) for data in metrics]
    return "\n".join([CSV_HEADER, *rows, ""]).encode()


def _cell(data: JsonObject, key: str) -> str:
    if data.get(key) is None:
        return ""
    text = f"{_number(data, key):.5f}".rstrip("0")
    return f"{text}0" if text.endswith(".") else text


def _number(data: JsonObject, key: str) -> float:
    value = data[key]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{key} is {value!r}, not a number")
    return value
