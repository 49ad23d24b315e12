"""Every list that has pages, walked in the same ways: nothing is missed, nothing comes twice."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pytest

from tunesmith.store import (
    ChatRow,
    CheckpointRow,
    EventRow,
    FileRow,
    JobOutcome,
    JobRow,
    KeyRow,
    Lease,
    NewCheckpoint,
    NewEvent,
    NewFile,
    Page,
    PermissionRow,
    ProjectRow,
    Store,
)

COUNT = 7


AnyPage: TypeAlias = (
    Page[ChatRow]
    | Page[CheckpointRow]
    | Page[EventRow]
    | Page[FileRow]
    | Page[JobRow]
    | Page[KeyRow]
    | Page[PermissionRow]
    | Page[ProjectRow]
)


@dataclass(frozen=True, slots=True)
class Listing:
    """`ids` oldest first; `both_ways` where the list takes an order."""

    ids: list[str]
    page: Callable[..., AnyPage]
    both_ways: bool = True


def files(store: Store) -> Listing:
    made = [store.files.create(store.blobs.write([b"x"]), NewFile("user_data", "a")).id for _ in range(COUNT)]
    return Listing(made, store.files.page)


def chats(store: Store) -> Listing:
    rows = [ChatRow(f"chatcmpl-{number}", "base", "base", 1, {}, (), {}, "default") for number in range(COUNT)]
    for row in rows:
        store.chats.add(row)
    return Listing([row.id for row in rows], store.chats.page)


def keys(store: Store) -> Listing:
    return Listing([store.keys.create(str(number))[1].id for number in range(COUNT)], store.keys.page)


def projects(store: Store) -> Listing:
    made = [store.projects.create(str(number)).id for number in range(COUNT - 1)]
    return Listing(["default", *made], store.projects.page, both_ways=False)


@pytest.fixture(params=["files", "chats", "keys", "projects", "jobs", "events", "checkpoints", "permissions"])
def listing(
    request: pytest.FixtureRequest,
    store: Store,
    make_job: Callable[..., JobRow],
    running: Callable[..., Lease],
    tmp_path: Path,
) -> Listing:
    match request.param:
        case "jobs":
            return Listing([make_job().id for _ in range(COUNT)], store.jobs.page, both_ways=False)
        case "events":
            return events(store, running())
        case "checkpoints":
            return checkpoints(store, running(), tmp_path)
        case "permissions":
            return permissions(store, running(), tmp_path)
    makers: dict[str, Callable[[Store], Listing]] = {
        "files": files,
        "chats": chats,
        "keys": keys,
        "projects": projects,
    }
    return makers[request.param](store)


def events(store: Store, lease: Lease) -> Listing:
    store.queue.append(lease, [NewEvent(str(number)) for number in range(COUNT - 1)])
    made = [event.id for event in reversed(store.jobs.events(lease.job_id, limit=100).data)]
    return Listing(made, lambda **how: store.jobs.events(lease.job_id, **how), both_ways=False)


def checkpoints(store: Store, lease: Lease, directory: Path) -> Listing:
    for step in range(1, COUNT + 1):
        store.queue.add_checkpoint(lease, NewCheckpoint(step, directory / str(step), {}), keep=COUNT)
    made = [row.id for row in reversed(store.jobs.checkpoints(lease.job_id, limit=100).data)]
    return Listing(made, lambda **how: store.jobs.checkpoints(lease.job_id, **how), both_ways=False)


def permissions(store: Store, lease: Lease, directory: Path) -> Listing:
    model = store.queue.finish(lease, JobOutcome(directory, 1, None)).fine_tuned_model
    assert model is not None
    granted = store.permissions.grant(model, [store.projects.create(str(number)).id for number in range(COUNT)])
    return Listing([row.id for row in granted], lambda **how: store.permissions.page(model, **how))


def walk(listing: Listing, limit: int, **how: str) -> Iterator[list[str]]:
    after = None
    for _ in range(len(listing.ids) + 1):
        page = listing.page(limit=limit, after=after, **how)
        yield [row.id for row in page.data]
        if not page.has_more:
            return
        after = page.data[-1].id
    pytest.fail("the pages do not end")


def test_a_walk_sees_everything_once_newest_first(listing: Listing) -> None:
    for limit in (1, 3, len(listing.ids), 100):
        pages = list(walk(listing, limit))
        assert [one for page in pages for one in page] == listing.ids[::-1]
        assert all(len(page) == limit for page in pages[:-1])
        assert pages[-1]


def test_a_walk_in_the_other_order_sees_everything_once(listing: Listing) -> None:
    if listing.both_ways:
        assert [one for page in walk(listing, 3, order="asc") for one in page] == listing.ids


def test_an_unknown_cursor_is_the_end(listing: Listing) -> None:
    for after in ("", "file-" + "0" * 24, "'; DROP TABLE jobs; --"):
        page = listing.page(limit=3, after=after)
        assert (page.data, page.has_more) == ((), False)


def test_after_the_oldest_there_is_nothing(listing: Listing) -> None:
    page = listing.page(limit=3, after=listing.ids[0])
    assert (page.data, page.has_more) == ((), False)


def test_pages_without_room_say_whether_there_is_more(listing: Listing) -> None:
    assert listing.page(limit=0).has_more
    assert not listing.page(limit=0, after=listing.ids[0]).has_more
