"""What a launcher tells of a trainer's end: lost nodes, too little memory, a node that cannot start it."""

import json

import pytest
from tests.worker.conftest import ONCE, Begin, Script, WaitFor, finished, messages

from tunesmith.store import JobStatus, Store
from tunesmith.worker import loop


def told(cause: str, reason: str) -> list[str]:
    return [json.dumps({"type": "interrupted", "cause": cause, "reason": reason})]


@ONCE
def test_lost_nodes_do_not_count_as_too_little_memory(
    store: Store, begin: Begin, script: Script, wait_for: WaitFor
) -> None:
    script(kill_always=2, noise=told("outside", "The node of the trainer was lost"))
    # Checked, and lost more often than want of memory is forgiven.
    job = begin(until=lambda row: row.attempt >= 6, seconds=60)
    script()
    done = wait_for(job, finished, 60)
    assert done.status is JobStatus.SUCCEEDED
    text = "The node of the trainer was lost after step 1. Training stopped there; it goes on from its last progress"
    assert messages(store, job).count(text) >= 4


@ONCE
def test_a_node_that_runs_out_of_memory_again_and_again_fails_the_job(begin: Begin, script: Script) -> None:
    script(kill_always=2, noise=told("memory", "The node ran out of memory, and the trainer was killed"))
    failed = begin(seconds=60)
    assert (failed.status, failed.attempt) == (JobStatus.FAILED, 4)
    assert failed.error is not None
    assert failed.error["message"] == (
        "The node ran out of memory, and the trainer was killed after step 1. This happened 3 times without a step of"
        " progress. Shorten the rows, take a smaller base, or a machine with more memory."
    )


@ONCE
def test_a_job_that_no_node_can_start_is_tried_again(
    store: Store, begin: Begin, script: Script, wait_for: WaitFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SHORTAGE_PAUSE", 0.1)
    script(kill_always=1, noise=told("setup", "The cluster's nodes have no Tunesmith. Use its image."))
    job = begin(until=lambda row: row.attempt >= 4, seconds=60)
    script()
    assert wait_for(job, finished, 60).status is JobStatus.SUCCEEDED
    said = "The cluster's nodes have no Tunesmith. Use its image. It is tried again for up to 10 minutes"
    assert messages(store, job).count(said) == 1
