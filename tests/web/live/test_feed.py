"""A feed reads what is new, once, and tells each viewer what it has not seen."""

from itertools import pairwise

import pytest
from tests.web.work import checkpoint, finish, new_job, running_job, step, train

from tunesmith.settings import Settings
from tunesmith.store import NewEvent, Store
from tunesmith.web.live import feed as feeds
from tunesmith.web.live.feed import Feed, Feeds, Place


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "SECONDS", 0.0)


def test_only_new_events_are_read(store: Store) -> None:
    lease = running_job(store)
    train(store, lease, 1, 50, 100)
    feed = Feed(store, lease.job_id)
    feed.refresh()
    assert feed.points()["train_loss"] == [(n, 2 - n / 100) for n in range(1, 51)]
    assert (feed.step, feed.looks, feed.ended) == (50, 1, False)
    seen = feed.place()
    feed.refresh()
    assert feed.looks == 1  # nothing was written
    train(store, lease, 51, 52, 100)
    feed.refresh()
    assert feed.patch(seen) == {
        name: (50, [(50, first), (51, first - last), (52, first - 2 * last)])
        for name, first, last in (("train_loss", 1.5, 0.01), ("train_mean_token_accuracy", 0.5, 0.0))
    }
    assert feed.patch(feed.place()) == {}
    assert feed.patch(Place())["train_loss"] == (0, feed.points()["train_loss"])


def test_a_very_long_job_is_read_piece_by_piece(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "CHUNK", 40)
    lease = running_job(store)
    train(store, lease, 1, 100, 100)
    feed = Feed(store, lease.job_id)
    feed.refresh()
    assert feed.behind
    assert not feed.unchanged()
    feed.refresh()
    feed.refresh()
    assert not feed.behind
    assert (feed.step, len(feed.points()["train_loss"])) == (100, 100)


def test_a_restarted_server_goes_on_where_the_viewer_was(store: Store) -> None:
    lease = running_job(store)
    train(store, lease, 1, 2_000, 3_000)
    before = Feed(store, lease.job_id)
    before.refresh()
    seen = Place.read(str(before.place()))
    train(store, lease, 2_001, 2_010, 3_000)
    after = Feed(store, lease.job_id)
    after.refresh()
    since, points = after.patch(seen)["train_loss"]
    assert 0 < since <= 2_000
    whole = [point for point in before.points()["train_loss"] if point[0] < since] + points
    assert whole == after.points()["train_loss"]


@pytest.mark.parametrize("text", ["", "x", "1-2", "1-2-3-4", "-1-2-3", "1-2-²", "9" * 30 + "-1-1"])
def test_an_id_of_something_else_is_the_beginning(text: str) -> None:
    assert Place.read(text) == Place()


def test_marks_change_with_what_they_stand_for(store: Store, settings: Settings) -> None:
    lease = running_job(store)
    feed = Feed(store, lease.job_id)
    feed.refresh()
    first = feed.marks()
    train(store, lease, 1, 3, 10)
    feed.refresh()
    assert feed.marks() == first
    store.queue.append(lease, [NewEvent("something happened")])
    feed.refresh()
    assert feed.marks().events != first.events
    assert feed.marks().head == first.head
    adapter = checkpoint(store, lease, settings.paths.jobs, 3)
    feed.refresh()
    assert feed.marks().checkpoints != first.checkpoints
    finish(store, lease, adapter)
    feed.refresh()
    assert feed.marks().head != first.head
    assert feed.ended


@pytest.mark.parametrize("chunk", [4_000, 10], ids=["whole", "behind"])
def test_the_newest_events_are_those_of_the_store(store: Store, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(feeds, "CHUNK", chunk)
    lease = running_job(store)
    scoped = store.of("default")
    for count, more in ((47, False), (1, False), (1, True), (30, True)):  # two events are there before
        store.queue.append(lease, [NewEvent(f"{count} {n}") for n in range(count)])
        train(store, lease, 1, 40, 99)
        feed = Feed(store, lease.job_id)
        feed.refresh()
        page = feed.events(scoped)
        assert page == scoped.progress.events(lease.job_id, limit=50)
        assert page.has_more is more


def test_validation_stays_known_between_its_steps(store: Store) -> None:
    lease = running_job(store)
    steps = [step(1, 9, 1.0, full_valid_loss=3.0), step(2, 9, 0.9), step(3, 9, 0.8, valid_loss=2.0), step(4, 9, 0.7)]
    store.queue.append(lease, steps, total_steps=9)
    feed = Feed(store, lease.job_id)
    feed.refresh()
    assert [(one["step"], one.get("full_valid_loss"), one.get("valid_loss")) for one in feed.table()] == [
        (1, 3.0, None),
        (2, 3.0, None),
        (3, None, 2.0),
        (4, None, 2.0),
    ]
    assert feed.points()["valid_loss"] == [(3, 2.0)]


def test_the_table_is_short_and_has_the_last_step(store: Store) -> None:
    lease = running_job(store)
    train(store, lease, 1, 777, 1_000)
    feed = Feed(store, lease.job_id)
    feed.refresh()
    steps = [int(str(one["step"])) for one in feed.table()]
    assert (steps[0], steps[-1]) == (1, 777)
    assert 20 <= len(steps) <= 41
    assert len({second - first for first, second in pairwise(steps[:-1])}) == 1


def test_the_rate_is_that_of_the_last_minute(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = running_job(store)
    feed = Feed(store, lease.job_id)
    feed.refresh()
    assert feed.rate() is None
    for first, last, when in ((1, 100, 1_000), (101, 200, 5_000), (201, 220, 5_010), (221, 240, 5_020)):
        monkeypatch.setattr("tunesmith.store.queue.events.time.time", lambda when=when: when)
        train(store, lease, first, last, 1_000)
    feed.refresh()
    assert feed.rate() == (240 - 101) / 20


def test_feeds_are_shared_and_few(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "MOST_FEEDS", 2)
    kept = Feeds(store)
    first = kept.of("a")
    assert kept.of("a") is first
    kept.of("b")
    kept.of("a")
    kept.of("c")
    assert kept.of("a") is first
    job = new_job(store)
    assert kept.fresh(job.id).points() == {}
