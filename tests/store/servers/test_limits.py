"""Limits that several servers share, on a real PostgreSQL; each thread here is a server with a store of its own."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import update
from tests.databases import Migrated

from tunesmith.settings import Settings
from tunesmith.store import Store, open_store
from tunesmith.store.schema.server_tables import limit_levels, limit_running
from tunesmith.store.servers.limits import Charge, SharedLimits

SERVERS = 4


@pytest.fixture
def stores(postgres_url: str, tmp_path: Path, migrated: Migrated) -> Iterator[list[Store]]:
    first = migrated(Settings(data_dir=tmp_path / "0", database_url=postgres_url))
    opened = [open_store(first.model_copy(update={"data_dir": tmp_path / str(one)})) for one in range(SERVERS)]
    yield opened
    for one in opened:
        one.close()


def of(store: Store) -> SharedLimits:
    assert store.limits is not None
    return store.limits


def earlier(store: Store, seconds: float) -> None:
    """Lets what was counted so far be that much older."""
    with store.database.write() as connection:
        connection.execute(update(limit_levels).values(at=limit_levels.c.at - seconds))
        connection.execute(update(limit_running).values(until=limit_running.c.until - seconds))


def test_servers_together_admit_what_one_would(stores: list[Store]) -> None:
    asked = [(of(store), Charge("requests", 30, 1.0)) for store in stores for _ in range(20)]
    with ThreadPoolExecutor(SERVERS) as pool:
        found = list(pool.map(lambda one: one[0].admit("p", [one[1]]).admitted, asked))
    assert found.count(True) in (30, 31)  # a second gives half a request
    assert of(stores[0]).admit("other", [Charge("requests", 30, 1.0)]).admitted


def test_a_refused_request_takes_nothing_of_any_bucket(stores: list[Store]) -> None:
    requests, tokens = Charge("requests", 5, 1.0), Charge("tokens", 100, 90.0)
    assert of(stores[0]).admit("p", [requests, tokens]).admitted
    for _ in range(3):
        refused = of(stores[1]).admit("p", [requests, tokens])
        assert (refused.admitted, round(refused.levels["requests"])) == (False, 4)
    earlier(stores[0], 48.0)  # 80 of 100 tokens come back in that time
    assert of(stores[1]).admit("p", [requests, tokens]).admitted


def test_a_debt_is_paid_before_anybody_is_admitted(stores: list[Store]) -> None:
    charge = Charge("tokens", 60, 10.0)
    of(stores[0]).settle("p", [Charge("tokens", 60, 180.0)])
    assert of(stores[1]).admit("p", [charge]).levels["tokens"] == pytest.approx(-120, abs=2)
    earlier(stores[0], 125.0)
    assert not of(stores[1]).admit("p", [charge]).admitted
    earlier(stores[0], 10.0)
    assert of(stores[1]).admit("p", [charge]).admitted


def test_a_changed_limit_counts_what_is_left_anew(stores: list[Store]) -> None:
    assert of(stores[0]).admit("p", [Charge("requests", 100, 1.0)]).levels["requests"] == 99
    assert of(stores[1]).admit("p", [Charge("requests", 10, 1.0)]).levels["requests"] == 9


def test_answers_at_a_time_are_counted_over_all_servers(stores: list[Store]) -> None:
    def begin(number: int) -> bool:
        return of(stores[number]).admit("p", [], server=str(number), most=3).admitted

    assert [begin(number) for number in range(SERVERS)] == [True, True, True, False]
    of(stores[1]).settle("p", [], server="1", places=-1)
    assert (begin(3), begin(0)) == (True, False)


def test_answers_of_a_server_that_is_gone_count_for_a_minute(stores: list[Store]) -> None:
    gone, other = of(stores[0]), of(stores[1])
    assert gone.admit("p", [], server="gone", most=1).admitted
    earlier(stores[0], 55.0)
    gone.renew("gone", {"p": None})  # it lives
    earlier(stores[0], 55.0)
    assert other.admit("p", [], server="other", most=1).elsewhere == 1
    gone.renew("gone", {"p": 3})
    assert other.admit("p", [], server="other", most=1).elsewhere == 3
    earlier(stores[0], 65.0)
    assert other.admit("p", [], server="other", most=1).admitted


def test_what_says_nothing_any_more_is_removed(stores: list[Store]) -> None:
    limits = of(stores[0])
    assert limits.admit("p", [Charge("requests", 5, 1.0)], server="gone", most=5).admitted
    assert limits.expire() == 0
    earlier(stores[0], 3700.0)
    assert limits.expire() == 2


def test_sqlite_has_one_server_and_no_limits_in_the_database(tmp_path: Path, migrated: Migrated) -> None:
    store = open_store(migrated(Settings(data_dir=tmp_path / "data", database_url=None)))
    assert store.limits is None
    store.close()
