"""Leases of work: one holder at a time, and what becomes of those whose holder is gone."""

import socket
import subprocess
import sys

from sqlalchemy import insert, update

from tunesmith.store import Store
from tunesmith.store.schema.server_tables import work_leases
from tunesmith.store.servers.leases import LEASE_SECONDS, WorkLeases


def held_by(store: Store, holder: str, seconds: float = 20.0) -> None:
    with store.database.write() as connection:
        until = store.database.clock(connection) + seconds
        connection.execute(insert(work_leases).values(name="work", holder=holder, until=until))


def takes(store: Store) -> bool:
    with store.leases.held("work") as mine:
        return mine


def test_work_is_held_by_one_at_a_time(store: Store) -> None:
    other = WorkLeases(store.database)
    other.holder = "elsewhere:1:00"  # a machine of its own
    with other.held("work") as theirs, store.leases.held("work") as ours, store.leases.held("more") as more:
        assert (theirs, ours, more) == (True, False, True)
    assert takes(store)


def test_a_lease_that_is_not_renewed_ends(store: Store) -> None:
    held_by(store, "elsewhere:1:00")
    assert not takes(store)
    with store.database.write() as connection:
        connection.execute(update(work_leases).values(until=work_leases.c.until - LEASE_SECONDS))
    assert takes(store)


def test_a_process_of_this_machine_that_is_gone_holds_nothing(store: Store) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    held_by(store, f"{socket.gethostname()}:{ended.pid}:00")
    assert takes(store)


def test_an_earlier_process_of_our_number_holds_nothing(store: Store) -> None:
    held_by(store, f"{store.leases.holder.rpartition(':')[0]}:another")
    assert takes(store)


def test_a_living_process_of_this_machine_holds_its_lease(store: Store) -> None:
    held_by(store, f"{socket.gethostname()}:1:00")
    assert not takes(store)
