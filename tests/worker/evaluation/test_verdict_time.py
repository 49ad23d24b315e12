"""How long a verdict takes: kept for the next one, and part of the job's estimated finish."""

import json
import time

import pytest
from tests.web.work import running_job
from tests.worker.conftest import Submit, WaitFor, Workers, finished
from tests.worker.evaluation.test_evaluation import DIFFERENT

from tunesmith.estimate.verdict_time import VerdictPlan, read_pace, record_pace
from tunesmith.settings import Settings
from tunesmith.store import JobStatus, Store
from tunesmith.train.protocol.events import Started, Step
from tunesmith.worker.relay import Relay

BASE = "smollm2-135m-instruct"


def test_a_verdicts_pace_is_kept_for_estimates(
    store: Store,
    workers: Workers,
    submit: Submit,
    wait_for: WaitFor,
    store_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SCRIPTED_EVALUATOR", json.dumps({"answers": 9}))
    workers.start()
    job = wait_for(submit(validation=DIFFERENT), finished)
    pace = read_pace(store_settings.paths.root, job.base_model)
    assert pace is not None
    assert 0 < pace < 10


def test_the_time_left_is_the_verdicts_while_it_is_made(
    store: Store,
    workers: Workers,
    submit: Submit,
    wait_for: WaitFor,
    store_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record_pace(store_settings.paths.root, BASE, 50, 50.0)
    monkeypatch.setenv("SCRIPTED_EVALUATOR", json.dumps({"seconds": 0.5}))
    workers.start()
    now = time.time()
    job = wait_for(submit(validation=DIFFERENT), lambda row: (row.estimated_finish or 0) > now + 20)
    assert job.status is JobStatus.RUNNING
    assert 24 <= (job.estimated_finish or 0) - now < 90  # a second for each of the rows and of 24 general questions
    store.jobs.cancel(job.id)


@pytest.mark.parametrize(
    ("verdict", "left"),
    [(None, 10), (VerdictPlan(30, pace=1.0), 10 + 24 + 24), (VerdictPlan(9), 10 / 0.85)],
    ids=["none", "pace", "share"],
)
def test_the_estimated_finish_has_the_verdict_in_it(store: Store, verdict: VerdictPlan | None, left: float) -> None:
    lease = running_job(store)
    relay = Relay(store, lease, 0, set(), 3, verdict)
    now = time.time()
    relay.take([Started(10), Step(1, 10, 1, 2.5, 0.5, seconds_left=10.0)])
    assert relay.send()
    row = store.jobs.get(lease.job_id)
    assert row is not None
    assert (row.estimated_finish or 0) - now == pytest.approx(left, abs=2.5)
