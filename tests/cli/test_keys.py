"""`tunesmith keys` and `tunesmith migrate`, on a data directory without a server."""

import time
from pathlib import Path

import pytest
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


def test_no_keys_says_how_to_make_one(tunesmith: Tunesmith) -> None:
    ran = tunesmith("keys", "list")
    assert (ran.code, ran.out) == (0, "")
    assert "tunesmith keys create NAME" in ran.err


@pytest.mark.parametrize("name", ["[/b] laptop", "[red]", ":fire: key", "天津"])
def test_names_are_listed_as_they_were_given(tunesmith: Tunesmith, name: str) -> None:
    assert tunesmith("keys", "create", f"  {name} ").code == 0
    assert tunesmith("projects", "create", name).code == 0
    assert name in tunesmith("keys", "list").out
    assert name in tunesmith("projects", "list").out


def test_json_of_a_key_has_no_secret_but_when_it_is_made(tunesmith: Tunesmith) -> None:
    made = tunesmith("keys", "create", "script", "--expires", "12h", "--json").json
    assert isinstance(made, dict)
    secret = made.pop("key")
    assert str(secret).startswith("sk-")
    assert made["hint"] == str(secret)[-len(str(made["hint"])) :]
    listed = tunesmith("keys", "list", "--json").json
    assert isinstance(listed, list)
    assert [key for key in listed if key["id"] == made["id"]] == [made]
    assert made["expires_at"] - made["created_at"] == pytest.approx(12 * 3600, abs=5)


def test_states_of_keys_are_told_apart(tunesmith: Tunesmith, tmp_path: Path) -> None:
    store = open_store(Settings(data_dir=tmp_path / "data"))
    for name, expires_at in (("forever", None), ("over", int(time.time()) - 90), ("later", 1_900_000_000)):
        store.keys.create(name, expires_at=expires_at)
    store.keys.revoke(store.keys.create("lost")[1].id)
    store.close()
    lines = tunesmith("keys", "list").out.splitlines()
    states = {line.split()[1]: line.rstrip() for line in lines[1:]}
    assert states["forever"].endswith("active")
    assert states["over"].endswith("expired 1m30s ago") or states["over"].endswith("expired 1m31s ago")
    assert states["later"].endswith("until 2030-03-17 17:46 UTC")
    assert "revoked" in states["lost"]


def test_key_can_be_revoked_once(tunesmith: Tunesmith) -> None:
    made = tunesmith("keys", "create", "old", "--json").json
    assert isinstance(made, dict)
    assert tunesmith("keys", "revoke", made["id"]).out == f"{made['id']} is revoked.\n"
    again = tunesmith("keys", "revoke", made["id"])
    assert again.code == 1
    assert "no active key" in again.err
