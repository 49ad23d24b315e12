"""Every code of the check, with the sentence that a user reads."""

import json
from pathlib import Path

import pytest
from tests.check.rows_of_codes import (
    ANSWER,
    COMPLETIONS,
    FILES,
    GOOD,
    NAMED,
    OPTIONAL_TOOL,
    PREFERENCES,
    ROWS,
    SYSTEM,
    USER,
    call,
    calling,
    chat,
)

from tunesmith.check.file_check import CheckOptions, check_file
from tunesmith.check.report.file_report import Report
from tunesmith.check.report.openai_wording import status_details
from tunesmith.render.renderer import Renderer
from tunesmith.rows.codes import CODES, RISK_CODES

OF_A_BASE = {  # tests/render/test_faults.py, tests/check/report/test_base_counts.py
    "not_renderable", "no_chat_template", "reasoning_not_trained", "beside_calls_not_trained",
}  # fmt: skip
OTHER_SHAPES = {"other_shape", "unclear_shape", "unclear_columns"}  # in tests/rows/other_shapes
ELSEWHERE = {
    "no_sound_row",
    "many_system_prompts",
    "unwritable_character",
    "not_ending_with_user",
    *OF_A_BASE,
    *RISK_CODES,
    *OTHER_SHAPES,
}


def written(path: Path, row: object, before: object) -> Path:
    last = row if isinstance(row, bytes) else row.encode() if isinstance(row, str) else json.dumps(row).encode()
    path.write_bytes((json.dumps(before).encode() + b"\n") * 10 + last + b"\n")
    return path


def expect(report: Report, code: str, line: int | None, path: str, message: str) -> None:
    found = [one for one in (*report.errors, *report.warnings) if one.code == code]
    assert found, f"{code} not among {report.counts}"
    assert (found[0].line, found[0].path) == (line, path)
    assert found[0].message == message or (message.endswith(": ") and found[0].message.startswith(message))
    assert found[0].fix == CODES[code].fix or code in ("invalid_json", "unrecognized_role")  # they know a closer one
    assert report.ok is not any(one.severity == "error" for one in report.errors)


@pytest.mark.parametrize("code", ROWS)
def test_a_chat_row_is_reported_with_line_path_and_sentence(code: str, tmp_path: Path) -> None:
    row, path, message = ROWS[code]
    report = check_file(written(tmp_path / "rows.jsonl", row, GOOD), CheckOptions(max_tokens=100))
    expect(report, code, 11, path, message)


@pytest.mark.parametrize("code", PREFERENCES)
def test_a_preference_row_is_reported_with_line_path_and_sentence(code: str, tmp_path: Path) -> None:
    row, path, message = PREFERENCES[code]
    expect(check_file(written(tmp_path / "rows.jsonl", row, NAMED)), code, 11, path, message)


@pytest.mark.parametrize("code", COMPLETIONS)
def test_a_completion_row_is_reported_with_line_path_and_sentence(code: str, tmp_path: Path) -> None:
    row, path, message = COMPLETIONS[code]
    before = {"prompt": "2 + 2 =", "completion": " 4"}
    expect(check_file(written(tmp_path / "rows.jsonl", row, before)), code, 11, path, message)


@pytest.mark.parametrize("code", FILES)
def test_a_file_is_reported_with_its_sentence(code: str, tmp_path: Path) -> None:
    content, message = FILES[code]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    method = "reinforcement" if code == "method_not_available" else "supervised"
    report = check_file(path, CheckOptions(method=method))
    found = [one for one in (*report.errors, *report.warnings) if one.code == code]
    assert [one.message for one in found] == [message]
    assert found[0].fix == CODES[code].fix


def test_a_reinforcement_row_must_end_with_the_user(tmp_path: Path) -> None:
    report = check_file(written(tmp_path / "rows.jsonl", GOOD, chat(USER, answer="4")))
    assert report.kind == "reinforcement"
    expect(report, "not_ending_with_user", 11, "messages[2]", "The last message is not the user's.")


def test_reinforcement_rows_of_chat_are_told_how_to_end(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text((json.dumps(GOOD) + "\n") * 10)
    report = check_file(path, CheckOptions(method="reinforcement"))
    expect(report, "not_ending_with_user", 1, "messages[2]", "The last message is not the user's.")


def test_many_system_prompts_are_pointed_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [chat({**SYSTEM, "content": f"You are number {i}."}, {**USER, "content": str(i)}, ANSWER) for i in range(12)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    message = "There are 12 different system messages; the commonest has 8% of the rows."
    expect(check_file(path), "many_system_prompts", None, "", message)


def test_characters_that_the_base_cannot_write_are_pointed_out(tmp_path: Path, renderer: Renderer) -> None:
    assert renderer.decode(renderer.encode("a\x13b")) != "a\x13b"
    path = written(tmp_path / "rows.jsonl", chat(SYSTEM, USER, {**ANSWER, "content": "ab\x13c\U00040000"}), GOOD)
    message = "The base's tokenizer has no token for U+0013, at character 2: the model is trained without it."
    report = check_file(path, CheckOptions(renderer=renderer))
    expect(report, "unwritable_character", 11, "messages[2].content", message)
    assert "unwritable_character" not in check_file(path).counts


def test_every_code_of_ours_is_in_these_tables() -> None:
    tested = {*ROWS, *PREFERENCES, *COMPLETIONS, *FILES, *ELSEWHERE}
    assert tested == set(CODES)


def test_ten_faults_at_once_give_ten_findings(tmp_path: Path) -> None:
    names = [
        "invalid_json",
        "not_an_object",
        "extra_key",
        "missing_messages",
        "missing_assistant",
        "message_missing_key",
    ]
    names += ["unrecognized_role", "missing_content", "arguments_not_json", "duplicate_key"]
    rows = [ROWS[name][0] for name in names]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    report = check_file(path)
    assert [(one.line, one.code) for one in report.errors] == list(enumerate(names, start=1))
    assert report.error_count == report.bad_rows == report.examples == 10


@pytest.mark.parametrize(
    ("arguments", "codes"),
    [
        ('{"a": 1}', set()),
        ('{"a": 1, "b": null}', {"null_argument"}),
        ('{"a": 1, "b": null, "c": null}', {"null_argument"}),
        ('{"a": null}', {"arguments_do_not_fit"}),
        ('{"a": null, "b": null}', {"arguments_do_not_fit"}),
        ('{"a": "one", "b": null}', {"arguments_do_not_fit"}),
        ('{"b": null}', {"arguments_do_not_fit"}),
    ],
    ids=["none", "one", "two", "required", "both", "other-fault", "missing"],
)
def test_null_is_a_warning_only_where_the_argument_may_be_left_out(
    tmp_path: Path, arguments: str, codes: set[str]
) -> None:
    row = chat(USER, calling(call(arguments)), tools=[OPTIONAL_TOOL])
    report = check_file(written(tmp_path / "rows.jsonl", row, GOOD))
    assert report.counts.keys() & {"null_argument", "arguments_do_not_fit"} == codes
    assert report.ok is ("arguments_do_not_fit" not in codes)


def test_rows_that_no_job_learns_from_are_no_training_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"messages": [USER], "id": number}) + "\n" for number in range(10)))
    report = check_file(path)
    assert not report.ok
    text = "The rows have no answer to learn: they end with the user and have further keys, as for reinforcement."
    expect(report, "method_not_available", None, "", text)
    assert status_details(report) is None  # the file may be uploaded; a job says what it cannot do with it
