"""What a worker makes of lines that no trainer of ours writes."""

import json

import pytest
from tests.worker.conftest import ONCE, Script, Submit, WaitFor, Workers, finished, messages

from tunesmith.jsonvalue import JsonObject
from tunesmith.store import JobStatus, Store

NOISE = (
    "",
    "Loading weights: 100%",
    "{",
    "[1]",
    "null",
    "\udcff\udcfe",  # not UTF-8
    "[" * 20_000,
    '{"a": ' * 5_000,
    "9" * 5_000,
    "{}",
    '{"type": null}',
    '{"type": ["step"]}',
    '{"type": "of a later release", "step": "x"}',
    '{"type": "log"}',
    '{"type": "log", "level": "loud", "message": ["a"], "more": 1}',
)
STEP: JsonObject = {
    "type": "step",
    "step": 1,
    "total_steps": 6,
    "epoch": 1,
    "train_loss": 1.0,
    "train_mean_token_accuracy": 0.5,
}
MALFORMED: tuple[JsonObject, ...] = (
    STEP | {"step": None},
    STEP | {"train_loss": "low"},
    STEP | {"train_loss": float("nan")},
    STEP | {"seconds_left": float("inf")},
    {"type": "checkpoint", "step": 1},
    {"type": "started"},
)
TEXTS = {"nul": "a\0b", "surrogate": "\ud800", "long": "x" * 60_000}


@ONCE
def test_lines_that_are_no_events_are_skipped(
    store: Store, submit: Submit, wait_for: WaitFor, workers: Workers, script: Script
) -> None:
    script(noise=NOISE)
    workers.start()
    job = wait_for(submit(), finished)
    assert job.status is JobStatus.SUCCEEDED, messages(store, job)


@ONCE
def test_a_malformed_event_fails_its_job_and_no_other(
    submit: Submit, wait_for: WaitFor, workers: Workers, script: Script
) -> None:
    """One worker has them all, one after another, and then trains as before."""
    workers.start()
    for line in MALFORMED:
        script(noise=[json.dumps(line)])
        job = wait_for(submit(), finished)
        assert job.status is JobStatus.FAILED, line
        assert job.error is not None
        assert f"The trainer's {line['type']} line has" in str(job.error["message"])
    script()
    assert wait_for(submit(), finished).status is JobStatus.SUCCEEDED


@pytest.mark.parametrize("kind", ["failed", "log"])
def test_text_that_no_database_takes_does_not_stop_the_worker(
    kind: str, submit: Submit, wait_for: WaitFor, workers: Workers, script: Script
) -> None:
    workers.start()
    for name, text in TEXTS.items():
        event = {"type": kind, "code": "trainer_error", "level": "info", "message": text}
        script(noise=[json.dumps(event)], exit_at=1)
        assert wait_for(submit(), finished).status is JobStatus.FAILED, name
    script()
    assert wait_for(submit(), finished).status is JobStatus.SUCCEEDED
