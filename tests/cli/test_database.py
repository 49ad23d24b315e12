"""`tunesmith db move`: from SQLite to PostgreSQL and back, without a server."""

from pathlib import Path

import pytest
from tests.cli.conftest import Tunesmith


def test_keys_and_jobs_are_found_in_the_new_database_and_the_old_one_stays(
    tunesmith: Tunesmith, tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tunesmith("keys", "create", "laptop").code == 0
    ran = tunesmith("db", "move", postgres_url, "--json")
    assert ran.code == 0, ran.err
    told = ran.json
    assert isinstance(told, dict)
    assert told["tables"]["keys"] == 2  # and the first one
    assert '"database.moved"' in (tmp_path / "data" / "audit.log").read_text("utf-8").splitlines()[-1]
    monkeypatch.setenv("TUNESMITH_DATABASE_URL", postgres_url)
    assert "laptop" in tunesmith("keys", "list").out
    full = tunesmith("db", "move", "sqlite")
    old = tmp_path / "data" / "tunesmith.db"
    cure = f"Move {old} to another folder, with tunesmith.db-wal and tunesmith.db-shm if they are there, then try again"
    assert (full.code, cure in " ".join(full.err.split())) == (1, True)
    old.rename(tmp_path / "old.db")
    back = tunesmith("db", "move", "sqlite")
    assert back.code == 0, back.err
    assert "are the same. Now unset database_url, and start." in " ".join(back.err.split())
    monkeypatch.delenv("TUNESMITH_DATABASE_URL")
    assert "laptop" in tunesmith("keys", "list").out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("sqlite",), 1, "Both databases are the same"),
        (("mysql://somewhere/db",), 2, "is no database: write postgresql://user@host/name, or sqlite"),
        (("postgresql://nobody@127.0.0.1:1/none",), 1, "There is no database"),
    ],
    ids=["same", "unknown", "nothing to move"],
)
def test_what_cannot_be_moved_is_said(tunesmith: Tunesmith, arguments: tuple[str, ...], code: int, words: str) -> None:
    ran = tunesmith("db", "move", *arguments)
    assert ran.code == code
    assert words in " ".join(ran.err.split())


def test_a_database_that_is_not_there_comes_with_the_command_that_makes_it(
    tunesmith: Tunesmith, postgres_url: str
) -> None:
    assert tunesmith("keys", "create", "laptop").code == 0
    place, _, query = postgres_url.partition("?")
    missing = f"{place.rpartition('/')[0]}/of_nobody{'?' if query else ''}{query}"
    ran = tunesmith("db", "move", missing)
    said = " ".join(ran.err.split())
    assert ran.code == 1
    assert "PostgreSQL has no such database. Create it with createdb NAME, or correct its URL." in said
    assert 'database "of_nobody" does not exist' in said
    assert "Try again" not in said


def test_a_database_that_does_not_answer_is_named_in_a_sentence(tunesmith: Tunesmith) -> None:
    assert tunesmith("keys", "create", "laptop").code == 0
    ran = tunesmith("db", "move", "postgresql://nobody@127.0.0.1:1/none")
    assert ran.code == 1
    assert "The database does not answer" in ran.err
    assert "Traceback" not in ran.err
