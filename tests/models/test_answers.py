"""The answers beside an adapter: bounded, and not needed."""

from pathlib import Path

from tunesmith.models.answers import ANSWERS_FILE, MOST_TOKENS, read_answers, write_answers


def test_answers_come_back_as_written(tmp_path: Path) -> None:
    write_answers(tmp_path, [(1, 2, 3), [], [4]])
    assert read_answers(tmp_path) == [[1, 2, 3], [], [4]]


def test_a_model_without_answers_has_none(tmp_path: Path) -> None:
    assert read_answers(tmp_path) == []


def test_only_the_first_answers_within_the_limit_are_kept(tmp_path: Path) -> None:
    half = [7] * (MOST_TOKENS // 2)
    write_answers(tmp_path, iter([half, half, [1], [2]]))
    assert [len(answer) for answer in read_answers(tmp_path)] == [len(half), len(half)]
    assert (tmp_path / ANSWERS_FILE).stat().st_size < 1_000_000
