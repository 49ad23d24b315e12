"""Kill -9 on a real cluster of two nodes, at random moments: no job is lost, and every adapter is as without a kill.

`make kills-ray` makes 30 kills (`RAY_KILLS`, `RAY_SEED`) of nodes, trainers, actors, workers and heads, and prints
each, then the table of docs/scaling.md. Without it one is made, of a node.
"""

import os
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil
import pytest
from tests.acceptance.ray.conftest import Worker, eventually, trainers
from tests.acceptance.test_worker_kill import STEPS, digest, submit, uninterrupted, wait_for
from tests.processes import lives
from tests.ray_cluster import RayCluster

from tunesmith.settings import Settings
from tunesmith.store import JobRow, JobStatus, Store

KILLS = int(os.environ.get("RAY_KILLS", "1"))
SEED = int(os.environ.get("RAY_SEED", "22"))
KINDS = ("node", "trainer", "actor", "worker", "head")
AT_ONCE = 3  # every third kill waits for no step
LONGEST = 8.0  # seconds until such a kill
STEP_SECONDS = 240  # until an attempt has made some steps: on a busy machine, perhaps after a new head and nodes
SHOWN = "{:>3}  {:<8} {:>5} {:>8} {:>6}  {}"


@dataclass(frozen=True, slots=True)
class Kill:
    kind: str
    step: int  # the last one that the job had made
    seconds: float  # until the next attempt, or the job's end


def test_no_job_is_lost_and_adapters_are_equal(
    cluster: RayCluster, store: Store, settings: Settings, worker: Worker, tmp_path: Path
) -> None:
    chance, jobs = random.Random(SEED), []
    kills: list[Kill] = []
    print("\n" + SHOWN.format("no", "killed", "step", "attempt", "s", "job"))
    while len(kills) < KILLS:
        job = submit(store)
        jobs.append(job)
        while len(kills) < KILLS and not _is_over(store, job, chance, len(kills)):
            kind = KINDS[len(kills) % len(KINDS)]
            before, begun = _row(store, job), time.monotonic()
            if not _kill(kind, job, cluster, worker):
                continue
            _next_attempt(store, before)
            kills.append(made := Kill(kind, before.last_step, time.monotonic() - begun))
            shown = (len(kills), kind, made.step, before.attempt, f"{made.seconds:.1f}", job.id)
            print(SHOWN.format(*shown), flush=True)
        _check_done(store, job)
    wanted = digest(uninterrupted(settings, _row(store, jobs[0]), tmp_path))
    assert {digest(_adapter(store, job)) for job in jobs} == {wanted}
    print(table(kills))
    print(f"{len(kills)} kills, {len(jobs)} jobs, 0 lost; all adapters are those of an undisturbed run ({wanted[:16]})")


def table(kills: Sequence[Kill]) -> str:
    """What was killed, at which steps, and how long the next attempt took to begin."""
    lines = ["| killed | times | after steps | seconds, median | longest |", "| --- | ---: | --- | ---: | ---: |"]
    for kind in KINDS:
        found = [kill for kill in kills if kill.kind == kind]
        if found:
            steps = ", ".join(str(step) for step in sorted(kill.step for kill in found))
            seconds = [kill.seconds for kill in found]
            lines.append(f"| {kind} | {len(found)} | {steps} | {median(seconds):.1f} | {max(seconds):.1f} |")
    return "\n".join(lines)


def _row(store: Store, job: JobRow) -> JobRow:
    row = store.jobs.get(job.id)
    assert row is not None
    return row


def _next_attempt(store: Store, before: JobRow) -> None:
    wait_for(store, before, lambda row: row.status.finished or row.attempt > before.attempt, 240)


def _is_over(store: Store, job: JobRow, chance: random.Random, kills: int) -> bool:
    """Waits for a random moment; true where the job has ended by then.

    Two of three come after some further steps, the third whenever it is: also while an attempt begins.
    """
    if kills % AT_ONCE < AT_ONCE - 1:
        step = _row(store, job).last_step + chance.randint(2, 9)
        wait_for(store, job, lambda row: row.last_step >= step or row.status.finished, STEP_SECONDS)
    else:
        time.sleep(chance.uniform(0, LONGEST))
    return _row(store, job).status.finished


def _kill(kind: str, job: JobRow, cluster: RayCluster, worker: Worker) -> bool:
    """Kills, and puts something in the place of what was killed; false where there is nothing to kill now."""
    if kind == "worker":
        worker.kill()
        worker.start()
        return True
    if kind == "head":
        cluster.kill_head()
        time.sleep(1)
        cluster.start()
        return True
    found = trainers(job.id)
    actor = found[0].parent() if found else None
    if actor is None or not actor.name().startswith("ray"):
        return False
    if kind == "node":
        raylet = actor.ppid()
        if raylet not in cluster.raylets():
            return False
        cluster.kill_node(raylet)
        if KILLS > 1:  # the other one is enough for one job
            cluster.add_node()
        return True
    (found[0] if kind == "trainer" else actor).send_signal(signal.SIGKILL)
    return True


def _check_done(store: Store, job: JobRow) -> None:
    done = wait_for(store, job, lambda row: row.status.finished, 240)
    assert (done.status, done.error) == (JobStatus.SUCCEEDED, None)
    assert [data["step"] for data in store.jobs.metrics(job.id)] == list(range(1, STEPS + 1))
    eventually(lambda: not trainers(job.id), 20)


def _adapter(store: Store, job: JobRow) -> Path:
    model = store.models.resolve(str(_row(store, job).fine_tuned_model))
    assert model is not None
    assert model.adapter_dir is not None
    return model.adapter_dir


def test_a_cancelled_job_ends_within_seconds_also_through_rays_client(
    cluster: RayCluster, store: Store, settings: Settings
) -> None:
    worker = Worker(settings.model_copy(update={"launcher": cluster.client_address}), cluster.environment)
    worker.start()
    try:
        _cancel(store)
    finally:
        worker.stop()


def _cancel(store: Store) -> None:
    job = submit(store)
    wait_for(store, job, lambda row: row.last_step >= 2, STEP_SECONDS)
    assert len(trainers(job.id)) == 1
    actor = trainers(job.id)[0].parent()
    store.jobs.cancel(job.id)
    begun = time.monotonic()
    eventually(lambda: not trainers(job.id), 15)
    psutil.wait_procs([actor] if actor else [], timeout=15)
    assert actor is None or not actor.is_running()
    assert time.monotonic() - begun < 15
    assert _row(store, job).status is JobStatus.CANCELLED


@pytest.mark.skipif(KILLS == 1, reason="a third cluster takes longer than CI has: make kills-ray")
def test_a_cluster_of_this_machine_listens_on_loopback_alone_and_ends_with_its_job(
    store: Store, settings: Settings
) -> None:
    worker = Worker(settings.model_copy(update={"launcher": "local"}), {})
    worker.start()
    try:
        job = submit(store)
        wait_for(store, job, lambda row: row.last_step >= 2, STEP_SECONDS)
        assert worker.process is not None
        started = psutil.Process(worker.process.pid).children(recursive=True)
        found = {address for process in started for address in _listening(process)}
        assert found
        assert found <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
        store.jobs.cancel(job.id)
        eventually(lambda: not any(lives(process) for process in started), 20)
    finally:
        worker.stop()


def _listening(process: psutil.Process) -> list[str]:
    try:
        connections = process.net_connections("tcp")
    except psutil.Error:
        return []
    return [one.laddr.ip for one in connections if one.status == psutil.CONN_LISTEN]
