"""Permissions of models, and what another project may do with them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tunesmith.errors import InvalidRequest, NotFound
from tunesmith.store import JobOutcome, Lease, NewCheckpoint, Store


@pytest.fixture
def model(store: Store, running: Callable[..., Lease], tmp_path: Path) -> str:
    """A tuned model of the first project."""
    lease = running()
    store.queue.append(lease, [], total_steps=1)
    store.queue.add_checkpoint(lease, NewCheckpoint(1, tmp_path / "adapter", {}))
    job = store.queue.finish(lease, JobOutcome(tmp_path / "adapter", 1, None))
    assert job.fine_tuned_model is not None
    return job.fine_tuned_model


@pytest.fixture
def other(store: Store) -> str:
    return store.projects.create("other").id


def test_a_permitted_project_uses_the_model_and_no_more(store: Store, model: str, other: str) -> None:
    theirs = store.of(other)
    assert theirs.models.resolve(model) is None
    [permission] = store.of("default").permissions.grant(model, [other])
    resolved = theirs.models.resolve(model)
    assert resolved is not None
    assert [row.name for row in theirs.models.all()] == [model]
    assert not theirs.models.delete(model)
    with pytest.raises(NotFound):
        theirs.permissions.grant(model, [other])
    with pytest.raises(NotFound):
        theirs.permissions.revoke(model, permission.id)
    assert store.of(store.projects.create("third").id).models.resolve(model) is None
    assert store.of("default").permissions.revoke(model, permission.id)
    assert theirs.models.resolve(model) is None
    assert not store.permissions.revoke(model, permission.id)


def test_granting_twice_is_one_permission(store: Store, model: str, other: str) -> None:
    first = store.permissions.grant(model, [other, other])
    assert len(first) == 1
    assert store.permissions.grant(model, [other]) == first


def test_an_unknown_project_grants_nothing_to_anybody(store: Store, model: str, other: str) -> None:
    with pytest.raises(InvalidRequest, match="no active project 'proj_x'") as caught:
        store.permissions.grant(model, [other, "proj_x"])
    assert caught.value.param == "project_ids[1]"
    assert store.permissions.page(model).data == ()


def test_pages_go_both_ways_and_can_be_of_one_project(store: Store, model: str) -> None:
    projects = [store.projects.create(name).id for name in "abc"]
    made = store.permissions.grant(model, projects)
    first = store.permissions.page(model, limit=2)
    assert (list(first.data), first.has_more) == (made[:0:-1], True)
    assert list(store.permissions.page(model, after=first.data[-1].id).data) == made[:1]
    assert list(store.permissions.page(model, order="asc").data) == made
    assert list(store.permissions.page(model, project_id=projects[1]).data) == [made[1]]


def test_a_deleted_model_is_shared_with_nobody(store: Store, model: str, other: str) -> None:
    store.permissions.grant(model, [other])
    store.models.delete(model)
    assert store.of(other).models.resolve(model) is None
    with pytest.raises(NotFound):
        store.permissions.page(model)


def test_a_checkpoint_is_shared_without_its_model(
    store: Store, running: Callable[..., Lease], other: str, tmp_path: Path
) -> None:
    lease = running()
    store.queue.append(lease, [], total_steps=2)
    for step in (1, 2):
        store.queue.add_checkpoint(lease, NewCheckpoint(step, tmp_path / str(step), {}))
    store.queue.finish(lease, JobOutcome(tmp_path / "2", 1, None))
    last, first = (row.fine_tuned_model_checkpoint for row in store.jobs.checkpoints(lease.job_id).data)
    store.permissions.grant(first, [other])
    assert [row.name for row in store.of(other).models.all()] == [first]
    assert store.of(other).models.get(first) is not None
    assert store.of(other).models.get(last) is None


def test_a_permission_of_another_model_is_not_this_ones(
    store: Store, model: str, other: str, running: Callable[..., Lease], tmp_path: Path
) -> None:
    second = store.queue.finish(running(), JobOutcome(tmp_path / "second", 1, None)).fine_tuned_model
    assert second is not None
    [permission] = store.permissions.grant(model, [other])
    assert not store.permissions.revoke(second, permission.id)
    assert store.permissions.page(second).data == ()
    assert store.of(other).models.resolve(model) is not None


def test_nothing_is_granted_to_an_archived_project(store: Store, model: str, other: str) -> None:
    store.projects.archive(other)
    with pytest.raises(InvalidRequest, match="no active project"):
        store.permissions.grant(model, [other])


def test_a_model_that_is_not_there_cannot_be_shared(store: Store, other: str) -> None:
    with pytest.raises(NotFound, match="'ft:none' does not exist") as caught:
        store.permissions.grant("ft:none", [other])
    assert (caught.value.param, caught.value.code) == ("model", "model_not_found")
    for call in (store.permissions.page, lambda name: store.permissions.revoke(name, "cp_x")):
        with pytest.raises(NotFound):
            call("ft:none")
