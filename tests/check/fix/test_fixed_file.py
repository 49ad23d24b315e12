"""`fix`: what it fixes, what it leaves alone, and that nothing is lost."""

import json
from pathlib import Path

import pytest

from tunesmith.check.file_check import CheckOptions, check_file
from tunesmith.check.fix.fix_result import FixResult
from tunesmith.check.fix.fixed_file import FixOptions, fix_file
from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject

USER, ANSWER = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}


def fixed(tmp_path: Path, *rows: object) -> tuple[FixResult, list[JsonObject]]:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    result = fix_file(source, target)
    return result, [json.loads(line) for line in target.read_text().splitlines()]


def test_duplicates_blank_lines_and_empty_rows_go(tmp_path: Path) -> None:
    row = {"messages": [USER, ANSWER]}
    reordered = '{"messages": [{"content": "a", "role": "user"}, {"content": "b", "role": "assistant"}]}'
    result, rows = fixed(
        tmp_path, row, "", row, "  ", reordered, {}, {"messages": []}, {"messages": [USER, {**ANSWER, "content": " "}]}
    )
    assert rows == [row]
    assert (result.rows_in, result.rows_out, result.duplicates, result.empty, result.blank_lines) == (6, 1, 2, 3, 2)


@pytest.mark.parametrize(
    ("row", "expected", "fix"),
    [
        (
            {"messages": [{**USER, "content": "a \n"}, {**ANSWER, "content": "b  "}]},
            {"messages": [USER, ANSWER]},
            "cut trailing blanks",
        ),
        (
            {"messages": [{**USER, "role": " User"}, {**ANSWER, "role": "ASSISTANT"}]},
            {"messages": [USER, ANSWER]},
            "renamed old roles",
        ),
        (
            {"messages": [{**USER, "role": "human"}, {**ANSWER, "role": "bot"}]},
            {"messages": [USER, ANSWER]},
            "renamed old roles",
        ),
        (
            {"messages": [{"role": "system", "content": ""}, USER, ANSWER]},
            {"messages": [USER, ANSWER]},
            "removed empty system messages",
        ),
        (
            {"messages": [{**USER, "weight": 1}, {**ANSWER, "weight": 1.0}]},
            {"messages": [USER, {**ANSWER, "weight": 1}]},
            "corrected weights",
        ),
        (
            {"messages": [USER, {**ANSWER, "weight": "1"}]},
            {"messages": [USER, {**ANSWER, "weight": 1}]},
            "corrected weights",
        ),
        (
            {"messages": [USER, {**ANSWER, "weight": False}, USER, {**ANSWER, "weight": True}]},
            {"messages": [USER, {**ANSWER, "weight": 0}, USER, {**ANSWER, "weight": 1}]},
            "corrected weights",
        ),
        (
            {"messages": [USER, {"role": "assistant", "function_call": {"name": "f", "arguments": {"x": 1}}}]},
            {"messages": [USER, {"role": "assistant", "function_call": {"name": "f", "arguments": '{"x":1}'}}]},
            "wrote call arguments as text",
        ),
    ],
)
def test_safe_fixes_are_applied_and_named(tmp_path: Path, row: JsonObject, expected: JsonObject, fix: str) -> None:
    result, rows = fixed(tmp_path, row)
    assert rows == [expected]
    assert result.changed[fix] == 1


def test_the_older_spelling_of_preference_rows_is_renamed(tmp_path: Path) -> None:
    outputs = {"preferred_completion": [ANSWER], "non_preferred_completion": [{**ANSWER, "content": "c"}]}
    _, rows = fixed(tmp_path, {"input": {"messages": [USER]}, **outputs})
    assert rows[0].keys() == {"input", "preferred_output", "non_preferred_output"}


def test_a_sound_row_is_written_as_it_stood(tmp_path: Path) -> None:
    line = '{ "messages" : [{"content":"\\u00e9", "role":"user"},  {"role":"assistant","content":"b"}]}'
    (tmp_path / "in.jsonl").write_bytes(b"\xef\xbb\xbf" + line.encode() + b" \r\n")
    fix_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_text() == line + "\n"


def test_completions_keep_their_blanks(tmp_path: Path) -> None:
    row = {"prompt": "a ->", "completion": " b\n"}
    assert fixed(tmp_path, row)[1] == [row]


def test_what_cannot_be_mended_is_kept_beside_the_result(tmp_path: Path) -> None:
    broken = ['{"messages": [', json.dumps({"messages": [USER]}), json.dumps({"prompt": "a", "completion": "b"})]
    result, rows = fixed(tmp_path, {"messages": [USER, ANSWER]}, *broken)
    assert len(rows) == 1
    assert result.rejected == 3
    assert result.rejected_file == "out.jsonl.rejected"
    assert (tmp_path / "out.jsonl.rejected").read_text().splitlines() == broken
    assert [one.code for one in result.log.errors] == ["invalid_json", "missing_assistant", "mixed_kinds"]
    assert check_file(tmp_path / "out.jsonl", CheckOptions(min_examples=0)).ok


def test_the_input_is_never_overwritten(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps({"messages": [USER, ANSWER]}))
    (tmp_path / "link.jsonl").symlink_to(source)
    for target in (source, tmp_path / "link.jsonl", tmp_path / "." / "in.jsonl"):
        with pytest.raises(InvalidRequest, match="is the input itself"):
            fix_file(source, target, FixOptions(overwrite=True))


def test_an_existing_result_is_not_replaced_unasked(tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(json.dumps({"messages": [USER, ANSWER]}))
    target.write_text("precious")
    with pytest.raises(InvalidRequest, match="exists already"):
        fix_file(source, target)
    assert target.read_text() == "precious"
    fix_file(source, target, FixOptions(overwrite=True))
    assert json.loads(target.read_text())


def test_a_file_that_is_no_jsonl_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(b"\x1f\x8b")
    with pytest.raises(InvalidRequest, match="compressed"):
        fix_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]
