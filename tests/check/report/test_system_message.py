"""The system message of a training file: that of most rows, or none."""

import json
from pathlib import Path

import pytest

from tunesmith.check.report.system_message import common_system_message
from tunesmith.check.scan.file_scan import scan_file
from tunesmith.check.scan.result import ScanOptions

ANSWER, OTHER = ({"role": "assistant", "content": text} for text in ("Yes.", "No."))


def row(number: int, system: object = None, role: str = "system") -> dict[str, object]:
    told = [] if system is None else [{"role": role, "content": system}]
    return {"messages": [*told, {"role": "user", "content": f"Question {number}?"}, ANSWER]}


def message_of(path: Path, rows: list[dict[str, object]]) -> str | None:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return common_system_message(path, scan_file(path, ScanOptions(find_kind=True)).rows)


@pytest.mark.parametrize(
    ("systems", "expected"),
    [
        (["rare", "common", "common"], "common"),
        (["first", "second", "second", "first"], "first"),  # a tie goes to the one that comes first
        (["Be brief.", None, "Be brief."], "Be brief."),
        (["Be brief.", None, None], None),
        (["Be brief.", None], None),
        ([None, None], None),
        (["one", "two", "three"], None),  # no message of the file, but of its rows
        (["alone"], "alone"),
        ([[{"type": "text", "text": "in "}, {"type": "text", "text": "parts"}]] * 2, "in parts"),
        (["you are \x1b[2J", "you are \x1b[2J"], "you are \x1b[2J"),
    ],
    ids=["most", "tie", "some_without", "most_without", "half_without", "none", "all_differ", "single", "parts", "raw"],
)
def test_message_of_most_rows_is_found(tmp_path: Path, systems: list[object], expected: str | None) -> None:
    assert message_of(tmp_path / "rows.jsonl", [row(at, one) for at, one in enumerate(systems)]) == expected


def test_developer_messages_and_preference_rows_count_too(tmp_path: Path) -> None:
    assert message_of(tmp_path / "a.jsonl", [row(1, "Dev.", "developer"), row(2, "Dev.", "developer")]) == "Dev."
    prompt = {"messages": [{"role": "system", "content": "Rank."}, {"role": "user", "content": "?"}]}
    pair: dict[str, object] = {"input": prompt, "preferred_output": [ANSWER], "non_preferred_output": [OTHER]}
    assert message_of(tmp_path / "b.jsonl", [pair, pair]) == "Rank."


def test_completion_rows_and_faulty_files_have_none(tmp_path: Path) -> None:
    assert message_of(tmp_path / "a.jsonl", [{"prompt": "a", "completion": "b"}] * 3) is None
    assert message_of(tmp_path / "b.jsonl", [{"nothing": 1}]) is None
