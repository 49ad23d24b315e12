"""What was made elsewhere: written once under its own ids; names without weights, and what replaces them."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.databases import settings_over

from tunesmith.errors import InvalidRequest, NotFound
from tunesmith.settings import Settings
from tunesmith.store import ACTIVE, FileRow, JobFiles, JobOutcome, JobRow, JobStatus, Lease, NewCheckpoint, Page, Store
from tunesmith.store.objects.imports import ImportedCheckpoint, ImportedEvent, ImportedFile, ImportedJob

FILE = ImportedFile("file-MNu4SQN4hf2nJmWVXyv8qW", "weather.jsonl", "fine-tune", 1755206000, "default")
NAME = "ft:gpt-4o-mini-2024-07-18:acme:weather:9uJPbR69"
EARLIER = "ft:gpt-4o-mini-2024-07-18:acme:weather:8aBcDeFg:ckpt-step-90"
JOB = ImportedJob(
    id="ftjob-GHSN7rot4jyVbB745NTZUtLX",
    model="gpt-4o-mini-2024-07-18",
    created_at=1755206255,
    finished_at=1755206622,
    fine_tuned_model=NAME,
    organization_id="org-acme",
    result_files=["file-9ExY6vqQKkGWaPNc8LbRkR"],
    status=JobStatus.SUCCEEDED,
    training_file=FILE.id,
    validation_file=None,
    hyperparameters={"n_epochs": 10},
    trained_tokens=5830,
    error=None,
    user_provided_suffix="weather",
    seed=2065781162,
    integrations=[],
    metadata={"team": "support"},
    method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 10}}},
    project="default",
    base_model="base",
    owned_by="acme",
    source="openai",
)
EVENTS = [
    ImportedEvent("ftevent-first0000", 1755206255, "info", "Created fine-tuning job", "message", {}),
    ImportedEvent("ftevent-second000", 1755206300, "info", "Step 1/100", "metrics", {"step": 1}),
]
CHECKPOINTS = [
    ImportedCheckpoint("ftckpt_earlier00", 1755206600, EARLIER, 90, {"train_loss": 0.5}),
    ImportedCheckpoint("ftckpt_last00000", 1755206620, NAME, 100, {"train_loss": 0.4}),
]


@pytest.fixture(params=["sqlite", "postgresql", "bucket"])
def store_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    return settings_over(request, tmp_path)


@pytest.fixture
def imported(store: Store) -> Store:
    assert store.imports.add([(FILE, [b"{}\n"])], [(JOB, EVENTS, CHECKPOINTS)]) == {FILE.id, JOB.id}
    return store


def test_file_keeps_its_id_and_time_and_survives_a_sweep(imported: Store) -> None:
    row = imported.files.get(FILE.id)
    assert row is not None
    assert (row.created_at, row.bytes, row.status, row.filename) == (1755206000, 3, "processed", "weather.jsonl")
    imported.files.sweep()
    assert imported.blobs.path(FILE.id).read_bytes() == b"{}\n"


def test_job_keeps_everything_and_is_no_work(imported: Store) -> None:
    row = imported.jobs.get(JOB.id)
    assert row is not None
    for name in ("model", "created_at", "finished_at", "fine_tuned_model", "status", "seed", "metadata", "method"):
        assert getattr(row, name) == getattr(JOB, name), name
    assert row.result_files == tuple(JOB.result_files)
    assert [event.id for event in imported.jobs.events(JOB.id).data] == ["ftevent-second000", "ftevent-first0000"]
    assert [point.step_number for point in imported.jobs.checkpoints(JOB.id).data] == [100, 90]
    assert imported.jobs.page(metadata={"team": "support"}).data == (row,)
    assert imported.queue.claim("one", ACTIVE, 30) is None


def test_second_time_changes_nothing(imported: Store) -> None:
    assert imported.imports.add([(FILE, [b"other"])], [(JOB, EVENTS, CHECKPOINTS)]) == set()
    assert imported.blobs.path(FILE.id).read_bytes() == b"{}\n"
    imported.files.delete(FILE.id)
    assert imported.imports.add([(FILE, [b"other"])], []) == set()
    assert imported.files.get(FILE.id) is None


def test_two_jobs_without_a_model_can_both_come(store: Store) -> None:
    for number in range(2):
        values = {name: getattr(JOB, name) for name in JOB.__slots__}
        failed = {"id": f"ftjob-failed000{number}", "fine_tuned_model": None, "status": JobStatus.FAILED}
        assert store.imports.add([], [(ImportedJob(**(values | failed)), [], [])])
    assert store.models.all() == []


def test_names_are_listed_and_cannot_be_asked(imported: Store) -> None:
    assert {(row.name, row.step) for row in imported.models.all()} == {(EARLIER, 90), (NAME, None)}
    for name in (NAME, EARLIER):
        with pytest.raises(InvalidRequest, match="imported from OpenAI") as caught:
            imported.models.resolve(name)
        assert caught.value.code == "model_without_weights"
        assert f"tunesmith models replace '{name}'" in caught.value.message


@pytest.fixture
def trained(imported: Store, running: Callable[..., Lease], store_settings: Settings) -> tuple[str, Path]:
    """A job of this server that has ended: its model, and where its adapter lies."""
    lease = running()
    adapter = JobFiles(store_settings.paths.jobs, lease.job_id).output / "adapter"
    adapter.mkdir(parents=True)
    imported.queue.add_checkpoint(lease, NewCheckpoint(1, adapter, {}))
    done = imported.queue.finish(lease, JobOutcome(adapter, 1, None))
    assert done.fine_tuned_model is not None
    return done.fine_tuned_model, adapter


def test_replaced_name_is_answered_by_the_new_model_and_keeps_its_files(
    imported: Store, trained: tuple[str, Path]
) -> None:
    new, adapter = trained
    imported.models.replace(NAME, new)
    resolved = imported.models.resolve(NAME)
    assert resolved is not None
    assert (resolved.name, resolved.adapter_dir) == (NAME, adapter)
    imported.models.replace(NAME, new)
    assert imported.models.stand_ins(new) == [NAME]
    assert imported.models.delete(new)
    assert imported.models.stand_ins(new) == [NAME]
    assert adapter.is_dir()
    assert imported.models.resolve(NAME) is not None
    assert imported.models.delete(NAME)


def test_only_imported_names_are_replaced(imported: Store, trained: tuple[str, Path]) -> None:
    new, _ = trained
    checkpoint = next(row.name for row in imported.models.all() if row.step == 1)
    for own in (new, checkpoint):
        with pytest.raises(InvalidRequest, match="weights of its own"):
            imported.models.replace(own, new)
    with pytest.raises(InvalidRequest, match="no weights here either"):
        imported.models.replace(NAME, EARLIER)
    for pair in ((NAME, "ft:nobody"), ("ft:nobody", new)):
        with pytest.raises(NotFound, match="ft:nobody"):
            imported.models.replace(*pair)


def imported_at(store: Store, seconds: int, number: int) -> str:
    """A failed job of that time, with its file; both ids end in `number`."""
    job = replace(JOB, id=f"ftjob-imported{number}", created_at=seconds, fine_tuned_model=None, status=JobStatus.FAILED)
    file = ImportedFile(f"file-imported00000000{number}", "a.jsonl", "fine-tune", seconds, "default")
    assert store.imports.add([(file, [b"{}\n"])], [(job, [], [])]) == {file.id, job.id}
    return job.id


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_imported_jobs_and_files_are_listed_by_their_own_time(
    store: Store, make_job: Callable[..., JobRow], limit: int
) -> None:
    here = store.of("default")
    made = make_job(project="default", metadata={"team": "support"})
    times = (1755206000, 1755206900, 1755206900, 1755206100)
    ids = [imported_at(store, seconds, number) for number, seconds in enumerate(times)]
    later = make_job(project="default", metadata={"team": "support"})
    newest_first = [later.id, made.id, ids[2], ids[1], ids[3], ids[0]]
    assert walked(lambda after: here.jobs.page(limit=limit, after=after)) == newest_first
    assert walked(lambda after: here.jobs.page(limit=limit, after=after, metadata={"team": "support"})) == newest_first
    files = [f"file-imported00000000{number}" for number in (2, 1, 3, 0)]
    for purpose in (None, "fine-tune"):
        assert walked(lambda after, p=purpose: here.files.page(limit=limit, after=after, purpose=p)) == files  # type: ignore[misc]
    assert walked(lambda after: here.files.page(limit=limit, after=after, order="asc")) == files[::-1]


def walked(page: Callable[[str | None], Page[JobRow] | Page[FileRow]]) -> list[str]:
    """The ids of all pages, one after the other."""
    ids: list[str] = []
    for _ in range(20):
        found = page(ids[-1] if ids else None)
        ids += [row.id for row in found.data]
        if not found.has_more:
            return ids
    raise AssertionError("the pages have no end")


def test_a_job_behind_a_hundred_others_is_still_something_to_do(store: Store, make_job: Callable[..., JobRow]) -> None:
    make_job()
    for number in range(101):
        imported_at(store, 2000000000, number)
    assert store.jobs.any_to_do()
    assert all(job.status.finished for job in store.jobs.page(limit=100).data)


def test_an_import_that_fails_half_way_leaves_nothing(store: Store) -> None:
    other = replace(FILE, id="file-other0000000000000")

    def broken() -> Iterator[bytes]:
        yield b"{}"
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        store.imports.add([(FILE, [b"{}"]), (other, broken())], [(JOB, EVENTS, CHECKPOINTS)])
    clash = replace(JOB, id="ftjob-clash0000")  # the same model name again
    with pytest.raises(Exception, match=r"(?i)unique"):
        store.imports.add([(FILE, [b"{}"])], [(JOB, EVENTS, CHECKPOINTS), (clash, EVENTS, [])])
    here = store.of("default")
    assert (here.files.page().data, here.jobs.page().data, store.models.all()) == ((), (), [])
    assert store.imports.add([(FILE, [b"{}"])], [(JOB, EVENTS, CHECKPOINTS)]) == {FILE.id, JOB.id}


def test_replacements_are_listed_and_undone(imported: Store, trained: tuple[str, Path]) -> None:
    new, adapter = trained
    assert imported.models.replacements() == {NAME: None, EARLIER: None}
    imported.models.replace(NAME, new)
    assert imported.models.replacements() == {NAME: new, EARLIER: None}
    imported.models.undo_replace(NAME)
    assert imported.models.replacements() == {NAME: None, EARLIER: None}
    with pytest.raises(InvalidRequest, match="imported from OpenAI"):
        imported.models.resolve(NAME)
    row = imported.models.get(NAME)
    assert row is not None
    assert (row.base_model, row.job_id) == (JOB.base_model, JOB.id)
    assert adapter.is_dir()  # the model itself is still there
    for name, said in ((EARLIER, "not replaced"), (new, "not replaced")):
        with pytest.raises(InvalidRequest, match=said):
            imported.models.undo_replace(name)
    with pytest.raises(NotFound, match="ft:nobody"):
        imported.models.undo_replace("ft:nobody")


def test_undoing_the_last_replacement_of_a_deleted_model_removes_its_files(
    imported: Store, trained: tuple[str, Path]
) -> None:
    new, adapter = trained
    imported.models.replace(NAME, new)
    for row in imported.models.all():
        if row.name not in (NAME, EARLIER):
            imported.models.delete(row.name)
    assert imported.models.replacements()[NAME] == new
    assert adapter.exists()
    imported.models.undo_replace(NAME)
    assert imported.models.stand_ins(new) == []
    assert not adapter.exists()
