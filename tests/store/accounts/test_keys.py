"""API keys."""

import re
import time

import pytest

from tunesmith.settings import Settings
from tunesmith.store import Store, open_store
from tunesmith.store.schema.tables import keys


def test_the_first_start_makes_a_key_and_later_ones_do_not(store: Store, store_settings: Settings) -> None:
    path = store_settings.paths.api_key_file
    raw = store.keys.ensure_first(path)
    assert raw is not None
    assert re.fullmatch(r"sk-tunesmith-[0-9A-Za-z]{43}", raw)
    assert path.read_text() == raw + "\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert store.keys.ensure_first(path) is None
    assert path.read_text() == raw + "\n"


def test_a_key_is_verified_and_others_are_not(store: Store) -> None:
    raw, row = store.keys.create("laptop")
    assert store.keys.verify(raw) == row
    assert row.hint == raw[-4:]
    for wrong in ("", "sk-wrong", raw[:-1], raw + "x", raw.upper(), "\ud800"):
        assert store.keys.verify(wrong) is None


def test_a_key_is_stored_as_a_hash_only(store: Store) -> None:
    raw, _ = store.keys.create("laptop")
    with store.database.read() as connection:
        row = connection.execute(keys.select()).one()
    assert raw not in str(row)
    assert raw[:20] not in str(row)


def test_a_revoked_key_opens_nothing(store: Store) -> None:
    raw, row = store.keys.create("laptop")
    assert store.keys.revoke(row.id)
    assert store.keys.verify(raw) is None
    assert not store.keys.revoke(row.id)
    assert [one.revoked_at is not None for one in store.keys.all()] == [True]


def test_a_key_is_remembered_until_anything_is_written(store: Store) -> None:
    raw, row = store.keys.create("laptop")
    assert store.keys.remembered(raw) is None
    store.keys.verify(raw)
    assert store.keys.remembered(raw) == (row if store.database.is_sqlite else None)
    assert store.keys.remembered("sk-wrong") is None
    store.projects.create("another")
    assert store.keys.remembered(raw) is None


def test_a_revocation_by_another_process_is_seen_at_once(store: Store, store_settings: Settings) -> None:
    raw, row = store.keys.create("laptop")
    store.keys.verify(raw)
    other = open_store(store_settings)
    assert other.keys.revoke(row.id)
    assert store.keys.remembered(raw) is None
    assert store.keys.verify(raw) is None
    assert store.keys.remembered(raw) is None
    other.close()


def test_a_remembered_key_expires(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    raw, row = store.keys.create("guest", expires_at=int(time.time()) + 100)
    store.keys.verify(raw)
    monkeypatch.setattr(time, "time", lambda: float(row.created_at + 1000))
    assert store.keys.remembered(raw) is None
    assert store.keys.verify(raw) is None
