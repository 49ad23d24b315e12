"""A trainer's lines in OpenAI's words."""

from tunesmith.jsonvalue import JsonObject
from tunesmith.store import CheckpointRow
from tunesmith.train.protocol.events import Step
from tunesmith.worker.openai_events import final_events, step_event, step_metrics_csv

LINE: JsonObject = {
    "type": "step",
    "step": 290,
    "total_steps": 303,
    "train_loss": 0.004,
    "train_mean_token_accuracy": 0.9,
}


def test_a_step_without_validation() -> None:
    event = step_event(Step.from_json(LINE))
    assert (event.message, event.type, event.step) == ("Step 290/303: training loss=0.00", "metrics", 290)
    assert event.data == {"step": 290, "train_loss": 0.004, "total_steps": 303, "train_mean_token_accuracy": 0.9}


def test_a_step_with_both_validations() -> None:
    event = step_event(Step.from_json(LINE | {"valid_loss": 0.31, "full_valid_loss": 0.05, "learning_rate": 1e-4}))
    assert event.message == "Step 290/303: training loss=0.00, validation loss=0.31, full validation loss=0.05"
    assert event.data is not None
    assert list(event.data)[:5] == ["step", "train_loss", "valid_loss", "total_steps", "full_valid_loss"]
    assert event.data["learning_rate"] == 1e-4
    assert "type" not in event.data


def test_the_result_file_has_five_decimals_and_blanks() -> None:
    metrics = [
        {"step": 1, "train_loss": 1.523468, "train_mean_token_accuracy": 0},
        {
            "step": 2,
            "train_loss": 0.1,
            "train_mean_token_accuracy": 1.0,
            "valid_loss": 2,
            "valid_mean_token_accuracy": 0.5,
        },
    ]
    assert step_metrics_csv(metrics).decode() == (  # type: ignore[arg-type]
        "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n1,1.52347,0.0,,\n2,0.1,1.0,2.0,0.5\n"
    )


def test_tiny_losses_are_written_as_decimals() -> None:
    metrics = [{"step": 1, "train_loss": 0.00003, "train_mean_token_accuracy": 1.0}]
    assert b"1,0.00003,1.0,," in step_metrics_csv(metrics)  # type: ignore[arg-type]


def test_the_end_names_earlier_checkpoints_oldest_first() -> None:
    kept = [CheckpointRow(str(step), "job", 0, name, step, {}) for step, name in ((30, "final"), (20, "b"), (10, "a"))]
    assert [event.message for event in final_events("final", kept)] == [
        "Checkpoint created at step 10 with Snapshot ID: a",
        "Checkpoint created at step 20 with Snapshot ID: b",
        "New fine-tuned model created: final",
        "The job has successfully completed",
    ]
