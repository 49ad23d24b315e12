"""Tuned models, and the files that go when nothing names them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from tunesmith.errors import NotFound
from tunesmith.settings import Settings
from tunesmith.store import JobFiles, JobOutcome, JobRow, JobStatus, Lease, NewCheckpoint, Store
from tunesmith.store.schema.tables import models

Running = Callable[..., Lease]


def directory(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "manifest.json").write_text("{}")
    return path


def trained(store: Store, settings: Settings, lease: Lease) -> JobRow:
    """A finished job as the trainer leaves it: an earlier checkpoint, the last one, the adapter, the progress."""
    output = JobFiles(settings.paths.jobs, lease.job_id).output
    store.queue.append(lease, [], total_steps=20)
    for number in (10, 20):
        path = directory(output / "checkpoints" / f"step-{number:06d}")
        store.queue.add_checkpoint(lease, NewCheckpoint(number, path, {}))
    directory(output / "progress" / "step-000020")
    (output / "journal.jsonl").write_text("")
    adapter = directory(output / "adapter")
    return store.queue.finish(lease, JobOutcome(adapter, 1, None))


def left(settings: Settings, job: JobRow) -> set[str]:
    output = JobFiles(settings.paths.jobs, job.id).output
    return {str(path.parent.relative_to(output)) for path in output.rglob("manifest.json")}


def test_a_finished_job_keeps_what_its_models_need(store: Store, running: Running, store_settings: Settings) -> None:
    job = trained(store, store_settings, running())
    store.models.clean(job.id)
    assert left(store_settings, job) == {"adapter", "checkpoints/step-000010"}
    assert [row.step for row in store.models.all()] == [10, None]


def test_a_name_that_people_give_is_in_the_row_and_goes_with_it(
    store: Store, running: Running, store_settings: Settings
) -> None:
    job = trained(store, store_settings, running())
    store.models.rename(job.planned_model, "Weather 天气")
    assert [row.display for row in store.models.page().data] == ["Weather 天气", None]
    with pytest.raises(NotFound):
        store.of("proj_other").models.rename(job.planned_model, "Theirs")
    assert store.models.delete(job.planned_model)
    with store.database.read() as connection:
        query = select(models.c.display).where(models.c.name == job.planned_model)
        assert connection.execute(query).scalar_one() is None


def test_a_deleted_model_is_none_and_its_files_go(store: Store, running: Running, store_settings: Settings) -> None:
    job = trained(store, store_settings, running())
    name = job.planned_model
    assert store.models.delete(name)
    assert store.models.resolve(name) is None
    assert store.models.get(name) is None
    assert not store.models.delete(name)
    assert left(store_settings, job) == {"checkpoints/step-000010"}


def test_deleting_every_model_leaves_no_adapter(store: Store, running: Running, store_settings: Settings) -> None:
    job = trained(store, store_settings, running())
    for row in store.models.all():
        assert store.models.delete(row.name)
    assert left(store_settings, job) == set()
    assert store.models.all() == []


def test_an_unknown_model_is_none(store: Store) -> None:
    assert store.models.resolve("smollm2-135m-instruct") is None
    assert not store.models.delete("ft:x")


def test_a_running_job_keeps_all_its_files(store: Store, running: Running, store_settings: Settings) -> None:
    lease = running()
    output = JobFiles(store_settings.paths.jobs, lease.job_id).output
    checkpoint = directory(output / "checkpoints" / "step-000010")
    directory(output / "progress" / "step-000010")
    store.queue.add_checkpoint(lease, NewCheckpoint(10, checkpoint, {}))
    assert store.models.delete(store.models.all()[0].name)
    store.models.clean_all()
    assert len(list(output.rglob("manifest.json"))) == 2


def test_a_cancelled_job_keeps_its_checkpoints_as_models(
    store: Store, running: Running, store_settings: Settings
) -> None:
    lease = running()
    output = JobFiles(store_settings.paths.jobs, lease.job_id).output
    checkpoint = directory(output / "checkpoints" / "step-000010")
    directory(output / "progress" / "step-000012")
    store.queue.add_checkpoint(lease, NewCheckpoint(10, checkpoint, {}))
    job = store.jobs.cancel(lease.job_id)
    store.models.clean_all()
    assert job.status is JobStatus.CANCELLED
    assert left(store_settings, job) == {"checkpoints/step-000010"}
    (model,) = store.models.all()
    resolved = store.models.resolve(model.name)
    assert resolved is not None
    assert resolved.adapter_dir == checkpoint


def test_files_of_a_job_that_this_database_does_not_know_are_left_alone(store: Store, store_settings: Settings) -> None:
    foreign = directory(store_settings.paths.jobs / "ftjob-foreign" / "output" / "adapter")
    store.models.clean_all()
    assert foreign.is_dir()


def test_a_deleted_models_files_stay_while_a_job_continues_from_it(
    store: Store, running: Running, make_job: Callable[..., JobRow], store_settings: Settings
) -> None:
    source = trained(store, store_settings, running())
    name = source.planned_model
    heir = make_job(model=name)
    assert store.models.delete(name)
    assert left(store_settings, source) == {"adapter", "checkpoints/step-000010"}
    adapter = store.models.adapter_to_continue(name)
    assert adapter is not None
    assert (adapter / "manifest.json").is_file()
    assert store.of("others").models.adapter_to_continue(name) is None
    store.jobs.cancel(heir.id)
    store.models.clean_all()
    assert left(store_settings, source) == {"checkpoints/step-000010"}


def test_pages_are_newest_first_and_hold_what_a_project_may_use(
    store: Store, running: Running, store_settings: Settings
) -> None:
    first, second = (trained(store, store_settings, running()) for _ in range(2))
    other = store.projects.create("Other").id
    names = [row.name for row in store.models.all()]
    assert names[1::2] == [first.planned_model, second.planned_model]
    mine, others = store.of("default").models, store.of(other).models
    page = mine.page(limit=3)
    assert ([row.name for row in page.data], page.has_more) == (names[:0:-1], True)
    rest = mine.page(limit=3, after=page.data[-1].name)
    assert ([row.name for row in rest.data], rest.has_more) == (names[:1], False)
    assert (others.page().data, mine.page(after="ft:none").data) == ((), ())
    store.of("default").permissions.grant(names[0], [other])
    assert [row.name for row in others.page().data] == names[:1]
    assert mine.delete(names[2])
    assert [row.name for row in mine.page(after=names[3]).data] == names[1::-1]
    assert [row.name for row in mine.page(after=names[2]).data] == names[1::-1]  # deleted since it was seen
