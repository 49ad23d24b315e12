"""What a worker makes of lines that no trainer of ours writes."""

import json
from collections.abc import Callable

import pytest
from tests.worker.conftest import Workers, messages

from tunesmith.jsonvalue import JsonObject
from tunesmith.store import JobRow, JobStatus, Store

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
Submit = Callable[..., JobRow]
WaitFor = Callable[..., JobRow]


def ended(job: JobRow) -> bool:
    return job.status in (JobStatus.SUCCEEDED, JobStatus.FAILED)


def test_lines_that_are_no_events_are_skipped(
    store: Store, submit: Submit, wait_for: WaitFor, workers: Workers, script: Callable[..., None]
) -> None:
    script(noise=NOISE)
    workers.start()
    job = wait_for(submit(), ended)
    assert job.status is JobStatus.SUCCEEDED, messages(store, job)


@pytest.mark.parametrize(
    "line",
    [
        STEP | {"step": None},
        STEP | {"train_loss": "low"},
        STEP | {"train_loss": float("nan")},
        STEP | {"seconds_left": float("inf")},
        {"type": "checkpoint", "step": 1},
        {"type": "started"},
    ],
    ids=lambda line: json.dumps(line)[:60],
)
def test_a_malformed_event_fails_its_job_and_no_other(
    line: JsonObject, store: Store, submit: Submit, wait_for: WaitFor, workers: Workers, script: Callable[..., None]
) -> None:
    script(noise=[json.dumps(line)])
    workers.start()
    job = wait_for(submit(), ended)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert f"The trainer's {line['type']} line has" in str(job.error["message"])
    script()
    assert wait_for(submit(), ended).status is JobStatus.SUCCEEDED


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "x" * 60_000], ids=["nul", "surrogate", "long"])
@pytest.mark.parametrize("kind", ["failed", "log"])
def test_text_that_no_database_takes_does_not_stop_the_worker(
    text: str,
    kind: str,
    store: Store,
    submit: Submit,
    wait_for: WaitFor,
    workers: Workers,
    script: Callable[..., None],
) -> None:
    script(noise=[json.dumps({"type": kind, "code": "trainer_error", "level": "info", "message": text})], exit_at=1)
    workers.start()
    job = wait_for(submit(), ended)
    assert job.status is JobStatus.FAILED
    script()
    assert wait_for(submit(), ended).status is JobStatus.SUCCEEDED
