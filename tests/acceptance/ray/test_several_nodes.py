"""A job whose ranks are on two nodes of a real cluster: one of them is killed, and the job ends as on one machine."""

import json
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.acceptance.ray.conftest import Worker, eventually, trainers
from tests.acceptance.ray.test_kills import KILLS, STEP_SECONDS
from tests.acceptance.test_worker_kill import STEPS, digest, spec_again, submit, uninterrupted, wait_for
from tests.ray_cluster import RayCluster

from tunesmith.launch.protocol import Start
from tunesmith.launch.ranks import RanksLauncher
from tunesmith.models.adapters import TENSORS_FILE
from tunesmith.settings import Settings
from tunesmith.store import JobRow, JobStatus, Store


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return Settings.model_validate({**settings.model_dump(), "ray_resources": {"tiny": {"nodes": 2}}})


@pytest.mark.skipif(KILLS == 1, reason="six trainers, one after another and beside each other: make kills-ray")
def test_ranks_on_two_nodes_survive_the_loss_of_one_and_train_as_two_ranks_here(
    cluster: RayCluster, store: Store, settings: Settings, worker: Worker, tmp_path: Path
) -> None:
    job = submit(store)
    wait_for(store, job, lambda row: row.last_step >= 3, STEP_SECONDS)
    places = {int(one.environ()["RANK"]): one for one in trainers(job.id)}
    environments = [places[rank].environ() for rank in range(2)]
    assert [one["WORLD_SIZE"] for one in environments] == ["2", "2"]
    assert [one["LOCAL_WORLD_SIZE"] for one in environments] == ["1", "1"]
    nodes = [place.parent().parent().pid for place in places.values()]
    assert sorted(nodes) == sorted(cluster.raylets())
    cluster.kill_node(nodes[[*places].index(1)])
    cluster.add_node()
    done = wait_for(store, job, lambda row: row.status.finished, 240)
    assert (done.status, done.error) == (JobStatus.SUCCEEDED, None)
    metrics = store.jobs.metrics(job.id)
    assert [data["step"] for data in metrics] == list(range(1, STEPS + 1))
    said = [event.message for event in store.jobs.events(job.id, limit=100).data]
    assert sum(text.startswith("Training goes on after an interruption") for text in said) == 1
    eventually(lambda: not trainers(job.id), 20)
    model = store.models.resolve(str(done.fine_tuned_model))
    assert model is not None
    adapter = model.adapter_dir
    assert adapter is not None
    assert digest(adapter) == digest(on_this_machine(settings, done, tmp_path / "two"))
    (tmp_path / "one").mkdir()
    alone = uninterrupted(settings, done, tmp_path / "one")
    found, wanted = (load_file(folder / TENSORS_FILE) for folder in (adapter, alone))
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-4)
    steps = [json.loads(line) for line in (alone.parent / "journal.jsonl").read_text().splitlines()]
    losses = [step["train_loss"] for step in steps if "train_loss" in step]
    assert [data["train_loss"] for data in metrics] == pytest.approx(losses, abs=1e-5)
    assert not list((settings.paths.jobs / job.id).glob("*.node*"))


def on_this_machine(settings: Settings, job: JobRow, folder: Path) -> Path:
    """The adapter of the same spec, trained by two ranks of this machine."""
    folder.mkdir()
    path = spec_again(settings, job, folder)
    trainer = RanksLauncher(2).start(Start(path, folder / "events", folder / "log", folder / "lock"))
    try:
        deadline = time.monotonic() + 120
        while (status := trainer.poll()) is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert status == 0, (folder / "log").read_text()
    finally:
        trainer.stop()
    return folder / "output" / "adapter"
