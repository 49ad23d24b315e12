"""Counters of usage: added up, cut into buckets, filtered and grouped."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tunesmith.store import JobOutcome, Lease, Store
from tunesmith.store.accounts.usage import Account, UsageFilter, UsageRow, this_minute
from tunesmith.store.rows import COUNTERS, Counts
from tunesmith.store.schema.tables import usage

HOUR, DAY = 3600, 86_400
NINE = 20_000 * DAY + 9 * HOUR  # nine o'clock of some day


@pytest.fixture
def filled(store: Store) -> Store:
    store.usage.add({Account(NINE, "default", "key_a", "base"): Counts(1, 10, 4, 5)}, {})
    store.usage.add(
        {
            Account(NINE, "default", "key_a", "base"): Counts(2, 20, 0, 6),
            Account(NINE + 60, "default", "key_b", "base"): Counts(1, 100, 0, 50),
            Account(NINE + HOUR, "other", "key_c", "ft:x"): Counts(1, 7, 0, 3),
            Account(NINE + DAY, "other", "key_c", "base"): Counts(trained_tokens=6810),
        },
        {},
    )
    return store


def test_counts_of_one_account_add_up(filled: Store) -> None:
    rows = filled.usage.sums(NINE, NINE + 60, 60, group_by=["project", "key_id", "model"])
    assert rows == [UsageRow(NINE, "default", "key_a", "base", Counts(3, 30, 4, 11))]


def test_buckets_of_minutes_hours_and_days(filled: Store) -> None:
    def starts_and_requests(width: int) -> list[tuple[int, int]]:
        return [(row.start, row.counts.requests) for row in filled.usage.sums(0, NINE + 2 * DAY, width)]

    assert starts_and_requests(60) == [(NINE, 3), (NINE + 60, 1), (NINE + HOUR, 1), (NINE + DAY, 0)]
    assert starts_and_requests(HOUR) == [(NINE, 4), (NINE + HOUR, 1), (NINE + DAY, 0)]
    assert starts_and_requests(DAY) == [(NINE - 9 * HOUR, 5), (NINE + 15 * HOUR, 0)]


def test_start_is_inclusive_and_end_is_not(filled: Store) -> None:
    assert [row.counts.requests for row in filled.usage.sums(NINE + 60, NINE + HOUR, DAY)] == [1]
    assert [row.counts.requests for row in filled.usage.sums(NINE + 90, NINE + HOUR + 1, DAY)] == [2]


def test_filters_and_groups(filled: Store) -> None:
    everything = (0, NINE + 2 * DAY, 100_000 * DAY)
    by_model = filled.usage.sums(*everything, group_by=["model"])
    assert [(row.model, row.project, row.counts.completion_tokens) for row in by_model] == [
        ("base", None, 61),
        ("ft:x", None, 3),
    ]
    (other,) = filled.usage.sums(*everything, where=UsageFilter(projects=["other"]))
    assert other.counts == Counts(1, 7, 0, 3, 6810)
    (two,) = filled.usage.sums(*everything, where=UsageFilter(key_ids=["key_b", "key_c"], models=["base"]))
    assert two.counts == Counts(1, 100, 0, 50, 6810)
    assert filled.usage.sums(*everything, where=UsageFilter(models=["nobody's"])) == []


def test_writers_at_once_lose_nothing(store: Store) -> None:
    accounts = [Account(NINE, "default", f"key_{number}", "base") for number in range(5)]

    def write(turn: int) -> None:
        shuffled = accounts[turn % 5 :] + accounts[: turn % 5]
        store.usage.add(dict.fromkeys(shuffled, Counts(1, 2)), {})

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(20)))
    (row,) = store.usage.sums(NINE, NINE + 1, 60)
    assert row.counts == Counts(100, 200)


def test_keys_know_when_they_were_last_used(store: Store) -> None:
    _, key = store.keys.create("laptop")
    assert key.last_used_at is None
    store.usage.add({}, {key.id: NINE})
    assert [row.last_used_at for row in store.keys.all()] == [NINE]


def test_finished_job_counts_its_trained_tokens(
    store: Store, running: Callable[..., Lease], store_settings: object, tmp_path: Path
) -> None:
    lease = running(project="mine", key_id="key_a")
    store.queue.finish(lease, JobOutcome(tmp_path / "adapter", trained_tokens=6810, result=None))
    (row,) = store.usage.sums(0, 10**11, 100_000 * DAY, group_by=["project", "key_id", "model"])
    assert (row.project, row.key_id, row.model, row.counts) == ("mine", "key_a", "base", Counts(trained_tokens=6810))


def test_nothing_was_used_where_nothing_was_counted(store: Store) -> None:
    assert store.usage.sums(0, NINE, DAY) == []
    store.usage.add({}, {})
    assert store.usage.sums(0, NINE, DAY, group_by=["project", "key_id", "model"]) == []


def test_every_group_is_a_row_of_its_own_in_order(filled: Store) -> None:
    rows = filled.usage.sums(0, NINE + 2 * DAY, 100_000 * DAY, group_by=["project", "key_id", "model"])
    assert [(row.project, row.key_id, row.model) for row in rows] == [
        ("default", "key_a", "base"),
        ("default", "key_b", "base"),
        ("other", "key_c", "base"),
        ("other", "key_c", "ft:x"),
    ]
    assert sum((row.counts for row in rows), Counts()) == Counts(5, 137, 4, 64, 6810)


def test_sums_beyond_32_bits_stay_exact(store: Store) -> None:
    account = Account(NINE, "default", "key_a", "base")
    for _ in range(3):
        store.usage.add({account: Counts(1, 2**40 + 1, 0, 0, 2**52)}, {})
    (row,) = store.usage.sums(NINE, NINE + 1, 60)
    assert row.counts == Counts(3, 3 * 2**40 + 3, 0, 0, 3 * 2**52)
    assert all(type(getattr(row.counts, name)) is int for name in COUNTERS)


def test_the_largest_sums_come_first(store: Store) -> None:
    for minute in (NINE, NINE + 60):
        for number in range(5):
            store.usage.add({Account(minute, "p", "k", f"m{number}"): Counts(1, 10 * number, 500, 1, 0)}, {})
    found = store.usage.largest(NINE, NINE + 61, "model", 2)
    assert found == [("m4", Counts(2, 80, 1000, 2, 0)), ("m3", Counts(2, 60, 1000, 2, 0))]
    assert store.usage.largest(NINE, NINE + 60, "key_id", 5) == [("k", Counts(5, 100, 2500, 5, 0))]


def test_last_use_of_many_keys_is_written_at_once_and_of_unknown_ones_not_at_all(store: Store) -> None:
    keys = [store.keys.create(str(number))[1].id for number in range(3)]
    store.usage.add({}, {keys[0]: NINE, keys[2]: NINE + 60, "key_unknown": NINE})
    assert [row.last_used_at for row in store.keys.all()] == [NINE, None, NINE + 60]


def test_this_minute_is_the_start_of_one() -> None:
    now = time.time()
    assert this_minute() % 60 == 0
    assert 0 <= now - this_minute() < 61


def test_every_counter_is_a_column() -> None:
    assert [column.name for column in usage.columns if column.name in COUNTERS] == list(COUNTERS)
