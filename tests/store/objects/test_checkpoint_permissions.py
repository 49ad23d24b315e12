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
