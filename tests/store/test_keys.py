"""API keys."""

import re

from tunesmith.settings import Settings
from tunesmith.store import Store
from tunesmith.store.tables import keys


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
