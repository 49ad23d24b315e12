"""A trainer's lines as events of a job, in OpenAI's words. Pure functions."""

from collections.abc import Iterable, Sequence

from tunesmith.jsonvalue import JsonObject
from tunesmith.store import CheckpointRow, NewEvent
from tunesmith.store.rows import EventLevel

STARTED = NewEvent("Fine-tuning job started", data=None)  # null there, {} in the others
COMPLETED = NewEvent("The job has successfully completed")

# OpenAI's keys first, then what else the trainer measures.
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


def step_event(line: JsonObject) -> NewEvent:
    """`Step 290/303: training loss=0.00, validation loss=0.31`, with the measures as its data."""
    text = f"Step {line['step']}/{line['total_steps']}: training loss={_number(line, 'train_loss'):.2f}"
    for key, name in (("valid_loss", "validation loss"), ("full_valid_loss", "full validation loss")):
        if line.get(key) is not None:
            text += f", {name}={_number(line, key):.2f}"
    data: JsonObject = {key: line[key] for key in STEP_KEYS if line.get(key) is not None}
    data |= {key: value for key, value in line.items() if key not in data and key != "type"}
    return NewEvent(text, type="metrics", data=data, step=int(_number(line, "step")))


def log_event(line: JsonObject) -> NewEvent:
    return NewEvent(str(line.get("message", "")), level=LEVELS.get(str(line.get("level")), "info"))


def checkpoint_metrics(line: JsonObject) -> JsonObject:
    """As the wire shows a checkpoint's metrics: the step among them, keys without a value left out."""
    found = line.get("metrics")
    return {"step": line["step"], **(found if isinstance(found, dict) else {})}


def final_events(model: str, kept: Sequence[CheckpointRow]) -> list[NewEvent]:
    """What closes a job: one event per earlier kept checkpoint, oldest first, then the model, then the end."""
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
    """OpenAI's result file: five decimals, blank where nothing was measured."""
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
