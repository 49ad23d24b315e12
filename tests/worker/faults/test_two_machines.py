"""Workers of two machines, which share a database and a bucket, and no disk."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.worker.conftest import Script, Submit, WaitFor, Workers, finished

from tunesmith.settings import Settings
from tunesmith.store import JobFiles, JobStatus, Store, open_store
from tunesmith.store.queue.job_files import KEPT
from tunesmith.store.storage.bucket import StorageUnavailable, open_bucket

BUCKET = pytest.mark.parametrize("store_settings", ["bucket"], indirect=True)


@pytest.fixture
def other_settings(store_settings: Settings, tmp_path: Path) -> Settings:
    url = f"sqlite:///{store_settings.paths.database}"
    return store_settings.model_copy(update={"data_dir": tmp_path / "other", "database_url": url})


@pytest.fixture
def other(store: Store, other_settings: Settings) -> Iterator[Store]:
    opened = open_store(other_settings)
    yield opened
    opened.close()


@BUCKET
def test_what_one_machine_was_sent_another_trains_and_the_first_serves(
    store: Store,
    store_settings: Settings,
    other: Store,
    other_settings: Settings,
    submit: Submit,
    wait_for: WaitFor,
    script: Script,
) -> None:
    job = submit()
    workers = Workers(other, other_settings)
    workers.start()
    done = wait_for(job, finished)
    workers.stop()
    assert done.status is JobStatus.SUCCEEDED
    found = store.models.resolve(job.planned_model)
    assert found is not None
    assert found.adapter_dir == JobFiles(store_settings.paths.jobs, job.id).output / "adapter"
    assert {"manifest.json", "card.json", "card.md"} <= {path.name for path in found.adapter_dir.iterdir()}
    checkpoint = store.models.resolve(next(row.name for row in store.models.all() if row.step == 3))
    assert checkpoint is not None
    assert checkpoint.adapter_dir is not None
    assert (checkpoint.adapter_dir / "manifest.json").read_text() == "{}"
    (metrics,) = done.result_files
    assert store.files.local_copy(metrics).read_text().startswith("step,")
    assert list(JobFiles(other_settings.paths.jobs, job.id).directory.glob(f"{KEPT}*")) == []


@BUCKET
def test_a_worker_takes_the_newest_progress_from_the_bucket(
    store: Store,
    store_settings: Settings,
    other: Store,
    other_settings: Settings,
    submit: Submit,
    wait_for: WaitFor,
    script: Script,
) -> None:
    job = submit()
    folder = JobFiles(store_settings.paths.jobs, job.id).output / "progress" / "step-000004"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text("four")
    store.models.publish_progress(job.id)
    script(seconds=0.2)
    workers = Workers(other, other_settings.model_copy(update={"ray_node_dir": Path("/node")}))  # for another launcher
    workers.start()
    wait_for(job, lambda row: row.last_step >= 1)
    there = JobFiles(other_settings.paths.jobs, job.id)
    assert (there.output / "progress" / "step-000004" / "state.json").read_text() == "four"
    assert [path.name for path in there.directory.glob(f"{KEPT}*")] == [f"{KEPT}{job.training_file}"]
    wait_for(job, finished)
    workers.stop()


@BUCKET
def test_a_bucket_that_takes_no_model_for_a_while_gets_one_result(
    store: Store,
    store_settings: Settings,
    workers: Workers,
    submit: Submit,
    wait_for: WaitFor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publish, refusals = store.models.publish, iter(range(3))

    def reluctant(folder: Path) -> None:
        if folder.name == "adapter" and next(refusals, None) is not None:
            raise StorageUnavailable("The object storage does not answer.")
        publish(folder)

    monkeypatch.setattr(store.models, "publish", reluctant)
    job = submit()
    workers.start()
    done = wait_for(job, finished)
    assert done.status is JobStatus.SUCCEEDED
    assert store_settings.storage is not None
    kept = [one.key for folder in ("files", "unclaimed") for one in open_bucket(store_settings.storage).list(folder)]
    assert sorted(kept) == sorted(f"files/{one}" for one in (job.training_file, *done.result_files))
