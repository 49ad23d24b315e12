"""A trainer's events: the JSON lines that they are, and what is made of lines that are not quite events."""

import io
import json

import pytest

from tunesmith.jsonvalue import JsonObject
from tunesmith.train.protocol.events import (
    Checkpoint,
    Done,
    Event,
    EventWriter,
    Failed,
    Log,
    Started,
    Step,
    from_json,
    parse_events,
)

STEP: JsonObject = {"type": "step", "step": 2, "total_steps": 8, "train_loss": 0.5, "train_mean_token_accuracy": 1}
LINES: list[tuple[Event, JsonObject]] = [
    (Started(8, 4, 10, 300, 60), {
        "type": "started", "total_steps": 8, "steps_per_epoch": 4, "examples": 10, "tokens_per_epoch": 300,
        "learned_tokens_per_epoch": 60, "resumed_from_step": 0,
    }),
    (Step(2, 8, None, 0.5, 1), STEP),
    (Step(2, 8, 1, 0.5, 1, seconds_left=0), STEP | {"epoch": 1, "seconds_left": 0}),
    (Checkpoint(4, 1, "/a", {"train_loss": 0.5}), {
        "type": "checkpoint", "step": 4, "epoch": 1, "path": "/a", "metrics": {"train_loss": 0.5},
    }),
    (Log("warn", "天"), {"type": "log", "level": "warn", "message": "天"}),
    (Done(8, 600, "/a"), {"type": "done", "steps": 8, "trained_tokens": 600, "path": "/a"}),
    (Failed("trainer_error", "No."), {"type": "failed", "code": "trainer_error", "message": "No.", "param": None}),
]  # fmt: skip


@pytest.mark.parametrize(("event", "line"), LINES, ids=[str(line["type"]) for _, line in LINES])
def test_an_event_is_its_line_and_back(event: Event, line: JsonObject) -> None:
    assert event.to_json() == line
    assert from_json(line) == event


def test_all_events_survive_the_pipe() -> None:
    pipe = io.StringIO()
    writer = EventWriter(pipe)
    for event, _ in LINES:
        writer(event)
    assert parse_events(pipe.getvalue()) == [event for event, _ in LINES]
    assert '"天"' in pipe.getvalue()


def test_an_absent_measure_is_an_absent_key() -> None:
    assert "valid_loss" not in Step(2, 8, None, 0.5, 1.0).to_json()
    assert Step(2, 8, None, 0.5, 1.0, valid_loss=0.0).to_json()["valid_loss"] == 0.0


def test_lines_and_fields_of_another_release_are_ignored() -> None:
    assert from_json({"type": "weather", "sun": True}) is None
    assert from_json({"step": 1}) is None
    assert from_json(STEP | {"mood": "good"}) == Step(2, 8, None, 0.5, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": None}, "The trainer's step line has step=None, which is no whole number"),
        ({"step": True}, "step=True"),
        ({"train_loss": "low"}, "train_loss='low', which is no number"),
        ({"epoch": 1.5}, "epoch=1.5, which is no whole number"),
    ],
)
def test_a_field_of_another_type_is_named(change: JsonObject, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        from_json(STEP | change)


def test_a_failure_is_understood_whatever_it_lacks() -> None:
    assert from_json({"type": "failed"}) == Failed("None", "None")
    assert json.loads(json.dumps(Failed("c", "m", "p").to_json()))["param"] == "p"
