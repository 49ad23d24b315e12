"""The journal after kills and cuts."""

from pathlib import Path

import pytest

from tunesmith.errors import DataError
from tunesmith.replay.journal import Asked, Entry, Journal

ASKED = Asked("teacher", "host", {"temperature": 0})
ROW: dict[str, object] = {"messages": []}


def filled(path: Path) -> None:
    with Journal(path, ASKED) as journal:
        for key, cost in (("a", 0.25), ("b", 0.5)):
            journal.reserve(key, 1.0)
            journal.add(Entry(key, cost, {"messages": [key]}))
        journal.reserve("c", 2.0)


def test_answers_and_costs_are_read_again(tmp_path: Path) -> None:
    filled(tmp_path / "journal")
    with Journal(tmp_path / "journal", ASKED) as journal:
        assert not journal.is_new
        assert ("a" in journal, "b" in journal, "c" in journal) == (True, True, False)
        assert journal.entry("b") == Entry("b", 0.5, {"messages": ["b"]})
        assert journal.spent == 2.75  # c may have been charged


@pytest.mark.parametrize("lost", [1, 2, 10, 30, 60])
def test_cut_end_is_forgotten_and_written_over(tmp_path: Path, lost: int) -> None:
    path = tmp_path / "journal"
    filled(path)
    path.write_bytes(path.read_bytes()[:-lost])
    with Journal(path, ASKED) as journal:
        journal.add(Entry("z", 0.0, {"messages": ["z"]}))
    with Journal(path, ASKED) as journal:
        assert "a" in journal
        assert journal.entry("z").row == {"messages": ["z"]}


def test_empty_file_is_a_new_journal(tmp_path: Path) -> None:
    (tmp_path / "journal").touch()
    with Journal(tmp_path / "journal", ASKED) as journal:
        assert journal.is_new


@pytest.mark.parametrize(
    ("other", "said"),
    [(Asked("x", "host", {"temperature": 0}), "teacher"), (Asked("teacher", "host", {}), "temperature")],
    ids=["teacher", "parameters"],
)
def test_journal_of_another_replay_is_refused(tmp_path: Path, other: Asked, said: str) -> None:
    filled(tmp_path / "journal")
    with pytest.raises(DataError, match=said):
        Journal(tmp_path / "journal", other)


def test_journal_in_which_nothing_was_asked_takes_other_options(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal", ASKED):
        pass
    other = Asked("teacher", "elsewhere", {})
    with Journal(tmp_path / "journal", other) as journal:
        journal.add(Entry("a", 0.0, {"messages": []}))
    with Journal(tmp_path / "journal", other) as journal:
        assert "a" in journal


def test_two_processes_cannot_share_a_journal(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal", ASKED), pytest.raises(DataError, match="Another replay"):
        Journal(tmp_path / "journal", ASKED)


def test_others_may_not_read_it(tmp_path: Path) -> None:
    filled(tmp_path / "journal")
    assert (tmp_path / "journal").stat().st_mode & 0o777 == 0o600
