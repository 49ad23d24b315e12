"""A report in OpenAI's words."""

import json
from pathlib import Path

import pytest

from tunesmith.check.file_check import CheckOptions, check_file
from tunesmith.check.report.file_report import Report
from tunesmith.check.report.openai_wording import job_error, status_details

USER, ANSWER = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
GOOD = {"messages": [USER, ANSWER]}


def report_on(tmp_path: Path, *rows: object, good: int = 10, method: str | None = None) -> Report:
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps(GOOD)] * good + [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(line + "\n" for line in lines))
    return check_file(path, CheckOptions(method=method))


def test_a_good_file_has_no_complaint(tmp_path: Path) -> None:
    report = report_on(tmp_path)
    assert (job_error(report), status_details(report)) == (None, None)


def test_too_few_examples_is_the_jobs_matter_and_not_the_files(tmp_path: Path) -> None:
    report = report_on(tmp_path, good=7)
    assert job_error(report) == {
        "code": "invalid_n_examples",
        "message": "Training file has 7 example(s), but must have at least 10 examples. Add 3 or more; 50 to 100"
        " usually show a clear change.",
        "param": "training_file",
    }
    assert status_details(report) is None


def test_broken_json_is_said_as_the_service_says_it(tmp_path: Path) -> None:
    report = report_on(tmp_path, '{"messages": [] "x"}')
    assert status_details(report) == (
        "Invalid file format. Example 11 cannot be parsed. Error: line contains invalid json: "
        "Expecting ',' delimiter: line 1 column 17 (char 16) (line 11)"
    )


FORMAT = "The job failed due to a file format error in the training file. Invalid file format. Example 11"
INVALID = "The job failed due to an invalid training file. Invalid file format. Example 11"


@pytest.mark.parametrize(
    ("row", "code", "start"),
    [
        ({}, "invalid_file_format", f"{FORMAT} is missing key 'messages'"),
        ({**GOOD, "weight": 1}, "invalid_file_format", f'{FORMAT} contains an extra "weight".'),
        (
            {"messages": [USER, {"content": "b"}]},
            "invalid_training_file",
            f"{INVALID}, message 2 Discriminator 'role' is missing in value",
        ),
    ],
)
def test_known_faults_have_the_services_sentence(tmp_path: Path, row: object, code: str, start: str) -> None:
    error = job_error(report_on(tmp_path, row))
    assert error is not None
    assert (error["code"], error["param"]) == (code, "training_file")
    assert str(error["message"]).startswith(start)


def test_the_validation_file_is_named_as_such(tmp_path: Path) -> None:
    error = job_error(report_on(tmp_path, [1]), "validation_file")
    assert error is not None
    assert (error["code"], error["param"]) == ("invalid_validation_file", "validation_file")
    assert "invalid validation file" in str(error["message"])


def test_the_wrong_method_names_the_file_and_the_cure(tmp_path: Path) -> None:
    error = job_error(report_on(tmp_path, method="dpo"), file_id="file-abc")
    assert error is not None
    assert "Input file file-abc" in str(error["message"])
    assert "method is 'dpo'" in str(error["message"])


def test_further_errors_are_counted(tmp_path: Path) -> None:
    assert str(status_details(report_on(tmp_path, [1], [2], {}))).endswith(
        " (2 more errors in this file; `tunesmith check FILE` lists them.)"
    )
