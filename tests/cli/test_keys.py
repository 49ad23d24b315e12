"""`tunesmith keys` and `tunesmith migrate`, on a data directory without a server."""

from pathlib import Path

from tests.cli.conftest import Tunesmith

from tunesmith.settings import Settings
from tunesmith.store import open_store


def test_created_key_is_printed_once_and_works(tunesmith: Tunesmith, tmp_path: Path) -> None:
    ran = tunesmith("keys", "create", "laptop")
    assert ran.code == 0
    raw_key = ran.out.strip()
    store = open_store(Settings(data_dir=tmp_path / "data"))
    row = store.keys.verify(raw_key)
    store.close()
    assert row is not None
    assert row.name == "laptop"
    listed = tunesmith("keys", "list")
    assert "laptop" in listed.out
    assert raw_key not in listed.out
    assert raw_key not in (tmp_path / "data" / "tunesmith.db").read_bytes().decode("latin-1")


def test_revoked_key_is_refused_from_then_on(tunesmith: Tunesmith, tmp_path: Path) -> None:
    created = tunesmith("keys", "create", "old", "--json").json
    assert isinstance(created, dict)
    assert tunesmith("keys", "revoke", created["id"]).code == 0
    store = open_store(Settings(data_dir=tmp_path / "data"))
    assert store.keys.verify(str(created["key"])) is None
    store.close()
    assert "revoked" in tunesmith("keys", "list").out


def test_revoking_an_unknown_key_points_to_the_list(tunesmith: Tunesmith) -> None:
    ran = tunesmith("keys", "revoke", "key-nothing")
    assert ran.code == 1
    assert "tunesmith keys list" in ran.err


def test_key_without_a_name_is_refused(tunesmith: Tunesmith) -> None:
    ran = tunesmith("keys", "create", "  ")
    assert ran.code == 1
    assert "name is empty" in ran.err
    assert tunesmith("keys", "list", "--json").json == []


def test_migrate_can_be_repeated(tunesmith: Tunesmith) -> None:
    assert tunesmith("migrate").code == 0
    assert tunesmith("migrate").code == 0
