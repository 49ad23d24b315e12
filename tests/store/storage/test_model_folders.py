"""Folders of models and progress in object storage, on two machines."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.buckets import keys

from tunesmith.errors import ServerFault
from tunesmith.settings import Settings
from tunesmith.store import JobFiles, JobOutcome, JobRow, Lease, NewCheckpoint, Store
from tunesmith.store.storage.bucket import PART_BYTES, Bucket
from tunesmith.store.storage.model_folders import DIGESTS, BucketFolders

Running = Callable[..., Lease]
WEIGHTS = b"w" * (PART_BYTES + 5)


def write(folder: Path, **more: bytes) -> Path:
    """A model's folder, as a trainer leaves it."""
    for name, content in {"adapter_model.safetensors": WEIGHTS, "base/config.json": b"{}", **more}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "manifest.json").write_text("{}")
    return folder


def checkpoint_of(store: Store) -> str:
    return next(row.name for row in store.models.all() if row.step == 10)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != DIGESTS
    }


@pytest.fixture
def job(store: Store, running: Running, store_settings: Settings) -> JobRow:
    """A finished job with a checkpoint, a model, and what is not needed any more."""
    lease = running()
    output = JobFiles(store_settings.paths.jobs, lease.job_id).output
    store.queue.append(lease, [], total_steps=20)
    checkpoint = write(output / "checkpoints" / "step-000010")
    store.models.publish(checkpoint)
    store.queue.add_checkpoint(lease, NewCheckpoint(10, checkpoint, {}))
    progress = output / "progress" / "step-000020-reported"
    progress.mkdir(parents=True)
    (progress / "state.json").write_text("{}")
    (output / "journal.jsonl").write_text("")
    store.models.publish_progress(lease.job_id)
    adapter = write(output / "adapter")
    store.models.publish(adapter)
    return store.queue.finish(lease, JobOutcome(adapter, 1, None))


def test_another_machine_serves_and_continues_a_model_that_one_has_made(
    store: Store, other: Store, bucket: Bucket, job: JobRow
) -> None:
    store.models.clean(job.id)
    names = ("adapter_model.safetensors", "base/config.json", "digests.json", "manifest.json")
    folders = ("adapter", "checkpoints/step-000010")
    assert keys(bucket) == {f"jobs/{job.id}/output/{folder}/{name}" for folder in folders for name in names}
    mine, theirs = store.models.get(job.planned_model), other.models.resolve(job.planned_model)
    assert mine is not None
    assert theirs is not None
    assert theirs.adapter_dir is not None
    assert theirs.adapter_dir != mine.adapter_dir
    assert contents(theirs.adapter_dir) == contents(mine.adapter_dir)
    checkpoint = other.models.adapter_to_continue(checkpoint_of(store))
    assert checkpoint is not None
    assert contents(checkpoint) == contents(mine.adapter_dir)
    assert [path.name for path in checkpoint.parent.iterdir()] == ["step-000010"]


def test_a_deleted_model_leaves_the_bucket_and_its_checkpoint_stays(store: Store, bucket: Bucket, job: JobRow) -> None:
    assert store.models.delete(job.planned_model)
    assert {key.split("/")[3] for key in keys(bucket)} == {"checkpoints"}
    assert store.models.delete(checkpoint_of(store))
    assert keys(bucket) == set()


def test_a_worker_that_starts_removes_what_a_crash_left(store: Store, bucket: Bucket, job: JobRow) -> None:
    assert any("progress" in key for key in keys(bucket))
    store.models.clean_all()
    assert not any("progress" in key for key in keys(bucket))


def test_a_model_without_its_manifest_is_none(other: Store, bucket: Bucket, job: JobRow) -> None:
    bucket.delete([f"jobs/{job.id}/output/adapter/manifest.json"])
    found = other.models.resolve(job.planned_model)
    assert found is not None
    assert found.adapter_dir is not None
    assert not found.adapter_dir.exists()


def test_weights_that_are_not_those_that_were_put_are_refused(other: Store, bucket: Bucket, job: JobRow) -> None:
    key = f"jobs/{job.id}/output/adapter/adapter_model.safetensors"
    bucket.put_bytes(key, b"v" * len(WEIGHTS))
    with pytest.raises(ServerFault, match=f"{key} in the object storage is not what was stored"):
        other.models.resolve(job.planned_model)
    folder = other.models.get(job.planned_model)
    assert folder is not None
    assert list(folder.adapter_dir.parent.glob("*")) == []


def test_a_name_that_leads_out_of_its_folder_is_refused(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put_bytes("jobs/a/manifest.json", b"{}")
    bucket.put_bytes("jobs/a/digests.json", b'{"../../stolen": "00"}')
    with pytest.raises(ServerFault, match="is not inside its folder"):
        BucketFolders(tmp_path, bucket, 1).fetch(tmp_path / "jobs" / "a")
    assert list(tmp_path.rglob("stolen")) == []


def test_a_folder_that_the_trainer_has_dropped_or_that_is_elsewhere_is_passed_over(
    bucket: Bucket, tmp_path: Path
) -> None:
    folders = BucketFolders(tmp_path / "data", bucket, 1)
    folders.publish(tmp_path / "data" / "jobs" / "gone")
    folders.publish(write(tmp_path / "elsewhere"))
    assert keys(bucket) == set()


def progress_of(output: Path, *names: str) -> None:
    for name in names:
        (output / "progress" / name).mkdir(parents=True)
        (output / "progress" / name / "state.json").write_text(name)
        (output / "journal.jsonl").write_text(f"to {name}")


def test_the_newest_progress_goes_along_and_an_older_one_does_not_replace_it(bucket: Bucket, tmp_path: Path) -> None:
    (one, here), (two, there) = (
        (BucketFolders(tmp_path / name, bucket, 1), tmp_path / name / "jobs" / "x" / "output")
        for name in ("one", "two")
    )
    two.fetch_progress(there)
    assert not there.exists()
    progress_of(here, "step-000003", "step-000007")
    one.publish_progress(here)
    two.fetch_progress(there)
    assert contents(there) == {
        "journal.jsonl": b"to step-000007",
        "progress/step-000007/state.json": b"step-000007",
    }
    progress_of(here, "step-000007-reported")
    one.publish_progress(here)
    assert {key.split("/")[4] for key in keys(bucket) if "progress" in key} == {"step-000007-reported"}
    progress_of(there, "step-000009")
    two.fetch_progress(there)
    assert (there / "journal.jsonl").read_text() == "to step-000009"
    shutil.rmtree(there / "progress" / "step-000009")
    two.fetch_progress(there)
    assert (there / "progress" / "step-000007-reported" / "state.json").is_file()


def test_fetched_models_leave_the_cache_when_there_is_no_room_and_trained_ones_stay(
    bucket: Bucket, tmp_path: Path
) -> None:
    ids = ("a", "b", "c")
    trained = [write(tmp_path / "one" / "jobs" / name / "output" / "adapter") for name in ids]
    for folder in trained:
        BucketFolders(tmp_path / "one", bucket, 1).publish(folder)
    own = write(tmp_path / "two" / "jobs" / "own" / "output" / "adapter")
    small = BucketFolders(tmp_path / "two", bucket, 2.5 * len(WEIGHTS) / 2**30)
    fetched = [tmp_path / "two" / "jobs" / name / "output" / "adapter" for name in ids]
    for folder in fetched[:2]:
        small.fetch(folder)
    hour_ago = time.time() - 3600
    for folder in (own, *fetched[:2]):
        os.utime(folder / "manifest.json", (hour_ago, hour_ago))
    small.fetch(fetched[0])
    small.fetch(fetched[2])
    assert [folder.exists() for folder in (own, *fetched)] == [True, True, False, True]
    small.fetch(fetched[1])  # the others were used a moment ago: more than the limit, but nothing is taken away
    assert [contents(folder) for folder in fetched] == [contents(folder) for folder in trained]


def test_a_worker_that_lost_its_job_does_not_undo_the_progress_of_the_next(bucket: Bucket, tmp_path: Path) -> None:
    late, next_one = (BucketFolders(tmp_path / name, bucket, 1) for name in ("one", "two"))
    behind, ahead = (tmp_path / name / "jobs" / "x" / "output" for name in ("one", "two"))
    progress_of(ahead, "step-000009")
    next_one.publish_progress(ahead)
    before = keys(bucket)
    progress_of(behind, "step-000005")
    late.publish_progress(behind)
    assert keys(bucket) == before
    third = tmp_path / "three" / "jobs" / "x" / "output"
    BucketFolders(tmp_path / "three", bucket, 1).fetch_progress(third)
    assert contents(third) == contents(ahead)
