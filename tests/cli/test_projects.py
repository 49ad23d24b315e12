"""`tunesmith projects` and the keys of projects, on a data directory without a server."""

import time
from pathlib import Path

import pytest
from tests.cli.conftest import Tunesmith

from tunesmith.cli.commands.keys import expiry
from tunesmith.cli.exits import CommandError
from tunesmith.settings import Settings
from tunesmith.store import KeyRow, open_store

NOW = 1_800_000_000.0  # 2027-01-15 08:00 UTC


def verified(tmp_path: Path, raw_key: str) -> KeyRow | None:
    store = open_store(Settings(data_dir=tmp_path / "data"))
    row = store.keys.verify(raw_key)
    store.close()
    return row


def test_project_is_made_renamed_listed_and_archived(tunesmith: Tunesmith) -> None:
    made = tunesmith("projects", "create", "support")
    assert made.code == 0
    project = made.out.strip()
    assert project.startswith("proj_")
    assert f"keys create NAME --project {project}" in made.err
    assert tunesmith("projects", "rename", "support", "help desk").code == 0
    assert "help desk" in tunesmith("projects", "list").out
    assert tunesmith("projects", "archive", "help desk").code == 0
    assert "help desk" not in tunesmith("projects", "list").out
    listed = tunesmith("projects", "list", "--archived", "--json").json
    assert isinstance(listed, list)
    assert [row["id"] for row in listed] == [project, "default"]


def test_key_belongs_to_its_project_with_role_and_end(tunesmith: Tunesmith, tmp_path: Path) -> None:
    project = tunesmith("projects", "create", "support").out.strip()
    arguments = ("--project", "support", "--role", "read-only", "--expires", "2d")
    raw = tunesmith("keys", "create", "desk", *arguments).out.strip()
    row = verified(tmp_path, raw)
    assert row is not None
    assert (row.project, row.role) == (project, "read-only")
    assert row.expires_at is not None
    assert row.expires_at - time.time() == pytest.approx(2 * 86400, abs=60)
    listed = tunesmith("keys", "list").out
    assert "read-only" in listed
    assert "UTC" in listed
    tunesmith("projects", "archive", project)
    assert verified(tmp_path, raw) is None


def test_new_key_is_a_members_and_the_first_one_an_owners(tunesmith: Tunesmith, tmp_path: Path) -> None:
    raw = tunesmith("keys", "create", "laptop").out.strip()
    row, first = verified(tmp_path, raw), verified(tmp_path, (tmp_path / "data" / "api-key").read_text().strip())
    assert row is not None
    assert first is not None
    assert (row.role, first.role) == ("member", "owner")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("keys", "create", "a", "--role", "admin"), "owner, member, read-only"),
        (("keys", "create", "a", "--project", "nowhere"), "tunesmith projects list"),
        (("keys", "create", "a", "--expires", "soon"), "12h"),
        (("projects", "create", " "), "name is empty"),
        (("projects", "archive", "nowhere"), "tunesmith projects list"),
        (("projects", "archive", "default"), "first project"),
    ],
)
def test_wrong_input_says_how_to_fix_it(tunesmith: Tunesmith, arguments: tuple[str, ...], said: str) -> None:
    ran = tunesmith(*arguments)
    assert ran.code == 1
    assert said in ran.err


def test_name_of_two_projects_asks_for_an_id(tunesmith: Tunesmith) -> None:
    ids = [tunesmith("projects", "create", "twin").out.strip() for _ in range(2)]
    ran = tunesmith("projects", "archive", "twin")
    assert ran.code == 1
    assert all(one in ran.err for one in ids)


def test_expiry_reads_hours_days_and_dates() -> None:
    assert expiry("12h", NOW) == int(NOW) + 12 * 3600
    assert expiry("30d", NOW) == int(NOW) + 30 * 86400
    assert expiry("2027-01-16", NOW) == int(NOW) + 16 * 3600
    for wrong in ("2027-01-15", "tomorrow", "5", "-3d", "0x1d"):
        with pytest.raises(CommandError):
            expiry(wrong, NOW)
