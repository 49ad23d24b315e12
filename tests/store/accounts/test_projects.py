"""Projects, and that a store of one project has nothing of another."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import text

from tunesmith.errors import InvalidRequest, NotFound
from tunesmith.settings import Settings
from tunesmith.store import JobRow, JobStatus, Lease, NewCheckpoint, NewFile, Store, open_store
from tunesmith.store.schema import migrate
from tunesmith.store.schema.db import Database, database_url


def test_a_project_is_there_from_the_start(store: Store) -> None:
    (first,) = store.projects.page().data
    assert (first.id, first.name, first.archived_at) == ("default", "Default project", None)


def test_projects_are_made_found_renamed_and_archived(store: Store) -> None:
    made = store.projects.create("support")
    assert store.projects.get(made.id) == made
    assert store.projects.named("support") == store.projects.named(made.id) == [made]
    renamed = store.projects.rename(made.id, "help desk")
    assert renamed is not None
    assert renamed.name == "help desk"
    archived = store.projects.archive(made.id)
    assert archived is not None
    assert archived.archived_at is not None
    assert store.projects.archive(made.id) == archived
    assert store.projects.named("help desk") == []
    assert [row.id for row in store.projects.page().data] == ["default"]
    assert [row.id for row in store.projects.page(archived=True).data] == [made.id, "default"]


def test_unknown_project_is_none_and_the_first_cannot_be_archived(store: Store) -> None:
    assert store.projects.get("proj_no") is None
    assert store.projects.rename("proj_no", "x") is None
    assert store.projects.archive("proj_no") is None
    with pytest.raises(InvalidRequest, match="first project cannot be archived"):
        store.projects.archive("default")


def test_projects_are_paged_newest_first(store: Store) -> None:
    ids = [store.projects.create(f"number {number}").id for number in range(3)]
    page = store.projects.page(limit=2)
    assert ([row.id for row in page.data], page.has_more) == ([ids[2], ids[1]], True)
    rest = store.projects.page(limit=2, after=ids[1])
    assert ([row.id for row in rest.data], rest.has_more) == ([ids[0], "default"], False)


def test_files_of_another_project_are_not_there(store: Store) -> None:
    mine = store.files.create(store.blobs.write([b"x"]), NewFile(purpose="fine-tune", filename="a", project="mine"))
    others = store.of("others")
    assert others.files.get(mine.id) is None
    assert not others.files.delete(mine.id)
    assert others.files.page().data == ()
    theirs = store.files.create(store.blobs.write([b"y"]), NewFile(purpose="fine-tune", filename="b", project="others"))
    assert others.files.page(after=mine.id, order="asc").data == ()
    assert others.files.page().data == (theirs,)
    assert store.of("mine").files.get(mine.id) == mine
    assert store.files.page().data == (theirs, mine)


def test_jobs_of_another_project_are_not_there(store: Store, make_job: Callable[..., JobRow]) -> None:
    job = make_job(project="mine")
    others = store.of("others")
    assert others.jobs.get(job.id) is None
    assert others.jobs.page().data == ()
    for change in (others.jobs.cancel, others.jobs.pause, others.jobs.resume):
        with pytest.raises(NotFound, match=job.id):
            change(job.id)
    for read in (others.jobs.events, others.jobs.checkpoints):
        assert read(job.id).data == ()
    assert others.jobs.messages(job.id) == []
    assert others.jobs.metrics(job.id) == []
    assert store.of("mine").jobs.events(job.id).data == store.jobs.events(job.id).data != ()
    assert store.of("mine").jobs.cancel(job.id).status is JobStatus.CANCELLED


def test_models_of_another_project_are_not_there(
    store: Store, running: Callable[..., Lease], store_settings: Settings
) -> None:
    lease = running(project="mine")
    adapter = store_settings.paths.jobs / lease.job_id / "output" / "step-1"
    adapter.mkdir(parents=True)
    store.queue.add_checkpoint(lease, NewCheckpoint(1, adapter, {}))
    (model,) = store.models.all()
    others = store.of("others")
    assert others.models.get(model.name) is None
    assert others.models.resolve(model.name) is None
    assert others.models.all() == []
    assert not others.models.delete(model.name)
    with pytest.raises(NotFound, match=model.name):
        others.models.replace(model.name, by=model.name)
    assert store.of("mine").models.resolve(model.name) is not None


def test_keys_of_an_archived_project_open_nothing(store: Store) -> None:
    project = store.projects.create("old")
    raw, row = store.keys.create("laptop", project=project.id)
    assert store.keys.verify(raw) == row
    store.projects.archive(project.id)
    assert store.keys.verify(raw) is None


def test_a_key_opens_nothing_after_its_last_second(store: Store) -> None:
    now = int(time.time())
    lasting, row = store.keys.create("guest", role="read-only", expires_at=now + 3600)
    assert store.keys.verify(lasting) == row
    assert (row.role, row.expires_at) == ("read-only", now + 3600)
    expired, _ = store.keys.create("guest", expires_at=now)
    assert store.keys.verify(expired) is None
    assert [key.id for key in store.keys.page().data] == [row.id]
    assert len(store.keys.all()) == 2


def test_keys_are_paged_by_project_and_role(store: Store) -> None:
    owner = store.keys.create("owner")[1]
    member = store.keys.create("member", role="member")[1]
    other = store.keys.create("other", role="member", project="other")[1]
    assert store.keys.page(role="owner").data == (owner,)
    assert store.keys.page(project="default").data == (member, owner)
    assert store.keys.page(project="default", role="member", order="asc").data == (member,)
    assert store.keys.get(other.id) == other
    store.keys.revoke(other.id)
    assert store.keys.get(other.id) is None


def test_keys_made_before_there_were_roles_become_owners(store_settings: Settings) -> None:
    store_settings.paths.root.mkdir(parents=True)
    database = Database(database_url(store_settings))
    with database.write() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        values = "('key_1', 'laptop', 'hash', 'abcd', 'default', 5)"
        columns = "id, name, sha256, hint, project, created_at"
        connection.execute(text(f"INSERT INTO keys ({columns}) VALUES {values}"))
    database.close()
    store = open_store(store_settings)
    (key,) = store.keys.all()
    assert (key.id, key.role, key.expires_at, key.last_used_at) == ("key_1", "owner", None, None)
    store.close()
