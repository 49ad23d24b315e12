"""Folders of models and progress in object storage, on two machines."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.buckets import keys
from tests.store.storage.folders import WEIGHTS, contents, machine, write

from tunesmith.errors import ServerFault
from tunesmith.settings import Settings
from tunesmith.store import JobFiles, JobOutcome, JobRow, Lease, NewCheckpoint, Store
from tunesmith.store.storage import model_folders
from tunesmith.store.storage.bucket import Bucket, StorageUnavailable, StoredObject
from tunesmith.store.storage.folder_cache import DIGESTS
from tunesmith.store.storage.model_folders import BucketFolders

Running = Callable[..., Lease]


def checkpoint_of(store: Store) -> str:
    return next(row.name for row in store.models.all() if row.step == 10)


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


OTHER_WEIGHTS = b"v" * len(WEIGHTS)  # as a GPU may give at the same step


class Breaks(Exception):
    """The machine that puts a folder is gone."""


@contextmanager
def broken(bucket: Bucket, at: str, error: Exception) -> Iterator[None]:
    """Inside the block what is put under a key with this end does not arrive."""
    put, put_bytes = bucket.put, bucket.put_bytes

    def put_file(key: str, path: Path) -> None:
        if key.endswith(at):
            raise error
        put(key, path)

    def put_content(key: str, content: bytes) -> None:
        if key.endswith(at):
            raise error
        put_bytes(key, content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bucket, "put", put_file)
        patch.setattr(bucket, "put_bytes", put_content)
        yield


def test_a_folder_that_a_lost_machine_has_put_in_part_is_replaced_by_that_of_the_next_attempt(
    bucket: Bucket, tmp_path: Path
) -> None:
    (lost, first), (next_one, second) = machine(bucket, tmp_path, "one"), machine(bucket, tmp_path, "two")
    write(first)
    with broken(bucket, DIGESTS, Breaks()), pytest.raises(Breaks):
        lost.publish(first)
    write(second, **{"adapter_model.safetensors": OTHER_WEIGHTS})
    next_one.publish(second)
    reader, there = machine(bucket, tmp_path, "three")
    reader.fetch(there)
    assert contents(there) == contents(second)


def test_progress_of_a_lost_machine_is_replaced_too(bucket: Bucket, tmp_path: Path) -> None:
    outputs = [tmp_path / name / "jobs" / "x" / "output" for name in ("one", "two", "three")]
    for output, weights in zip(outputs, (WEIGHTS, OTHER_WEIGHTS), strict=False):
        progress_of(output, "step-000007")
        (output / "progress" / "step-000007" / "values.safetensors").write_bytes(weights)
    with broken(bucket, DIGESTS, Breaks()), pytest.raises(Breaks):
        BucketFolders(tmp_path / "one", bucket, 1).publish_progress(outputs[0])
    BucketFolders(tmp_path / "two", bucket, 1).publish_progress(outputs[1])
    BucketFolders(tmp_path / "three", bucket, 1).fetch_progress(outputs[2])
    assert contents(outputs[2]) == contents(outputs[1])


def test_a_complete_folder_that_is_put_with_other_bits_is_none_until_all_of_it_is_there(
    bucket: Bucket, tmp_path: Path
) -> None:
    (one, first), (two, second) = machine(bucket, tmp_path, "one"), machine(bucket, tmp_path, "two")
    one.publish(write(first))
    write(second, **{"adapter_model.safetensors": OTHER_WEIGHTS})
    with broken(bucket, "manifest.json", Breaks()), pytest.raises(Breaks):
        two.publish(second)
    reader, there = machine(bucket, tmp_path, "three")
    reader.fetch(there)
    assert not there.exists()
    two.publish(second)
    reader.fetch(there)
    assert contents(there) == contents(second)


def test_what_an_outage_cut_off_goes_on_and_an_unchanged_file_is_not_put_again(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders, folder = machine(bucket, tmp_path, "one")
    write(folder)
    with broken(bucket, DIGESTS, StorageUnavailable("away")), pytest.raises(StorageUnavailable):
        folders.publish(folder)
    sent: list[str] = []
    put = bucket.put

    def noted(key: str, path: Path) -> None:
        sent.append(path.name)
        put(key, path)

    monkeypatch.setattr(bucket, "put", noted)
    folders.publish(folder)
    (folder / "README.md").write_text("# A card")
    folders.publish(folder)
    assert sent == ["manifest.json", "README.md", "manifest.json"]
    reader, there = machine(bucket, tmp_path, "two")
    reader.fetch(there)
    assert contents(there) == contents(folder)


def test_a_model_whose_cards_are_written_while_it_is_fetched_comes_whole(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders, folder = machine(bucket, tmp_path, "one")
    (write(folder) / "README.md").write_text("# A card")
    folders.publish(folder)
    listing = bucket.list
    again = iter([True])

    def list_and_then(prefix: str) -> Iterator[StoredObject]:
        found = [*listing(prefix)]
        if next(again, False):
            (folder / "README.md").write_text("# A card with a verdict, which is longer")
            (folder / "verdict.json").write_text("{}")
            folders.publish(folder)
        yield from found

    monkeypatch.setattr(bucket, "list", list_and_then)
    monkeypatch.setattr(model_folders, "AGAIN_SECONDS", 0.0)
    reader, there = machine(bucket, tmp_path, "two")
    reader.fetch(there)
    assert contents(there) == contents(folder)


def test_digests_that_are_put_again_while_they_are_read_are_read_whole(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders, folder = machine(bucket, tmp_path, "one")
    folders.publish(write(folder))
    listing = bucket.list

    def list_and_then(prefix: str) -> Iterator[StoredObject]:
        found = [*listing(prefix)]
        if not (folder / "README.md").exists():
            (folder / "README.md").write_text("# A card")
            folders.publish(folder)
        yield from found

    monkeypatch.setattr(bucket, "list", list_and_then)
    assert folders.is_published(folder)


def test_the_last_progress_is_put_although_the_storage_did_not_answer_a_moment_ago(
    bucket: Bucket, tmp_path: Path
) -> None:
    folders, output = BucketFolders(tmp_path / "one", bucket, 1), tmp_path / "one" / "jobs" / "x" / "output"
    progress_of(output, "step-000003")
    with broken(bucket, "journal.jsonl", StorageUnavailable("away")):
        folders.publish_progress(output)
    folders.publish_progress(output)  # it waits before it asks again
    assert keys(bucket) == set()
    folders.publish_progress(output, last=True)
    assert {key.rpartition("/")[2] for key in keys(bucket)} == {"journal.jsonl", "digests.json", "state.json"}


def test_what_a_node_has_put_after_its_jobs_end_goes_within_a_day(
    store: Store, other: Store, bucket: Bucket, job: JobRow, running: Running
) -> None:
    store.models.clean(job.id)
    kept = keys(bucket)
    lease = running()
    going_on, unknown = (
        f"jobs/{lease.job_id}/output/progress/step-000001/values",
        "jobs/ftjob-of-another/output/adapter/a",
    )
    for key in (going_on, unknown, f"jobs/{job.id}/output/progress/step-000030/values"):
        bucket.put_bytes(key, b"late")
    assert other.models.tidy() == 1
    assert keys(bucket) == kept | {going_on, unknown}
    bucket.put_bytes(f"jobs/{job.id}/output/rows/0123", b"late")
    assert other.models.tidy() == 0  # not looked for again on that day
    assert store.expire() == 1
    assert keys(bucket) == kept | {going_on, unknown}
