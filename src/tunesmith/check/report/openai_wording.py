"""A report in OpenAI's words: a job's `error`, and a file's `status_details`.

Where the service's own sentence for a fault is known it is used; ours adds path and fix after it.
"""

import re
from collections.abc import Sequence

from tunesmith.check.report.file_report import Report
from tunesmith.jsonvalue import JsonObject
from tunesmith.rows.findings import Finding

_CODES = {"training_file": "invalid_training_file", "validation_file": "invalid_validation_file"}
_FORMAT_CODES = frozenset(
    ("extra_key", "missing_messages", "missing_key", "other_shape", "unclear_shape", "unclear_columns")
)
_OF_THE_JOB = ("too_few_examples", "wrong_method", "method_not_available")  # no fault of a file that is only uploaded
_MESSAGE_PATH = re.compile(r"messages\[(\d+)\]")


def job_error(report: Report, param: str = "training_file", *, file_id: str | None = None) -> JsonObject | None:
    """The `error` of a job that must fail because of this file; None for a good file.

    Its keys are `code`, `message` and `param`.
    """
    first = first_error(report.errors)
    if first is None:
        return None
    which = "validation" if param == "validation_file" else "training"
    if first.code == "too_few_examples":
        message = f"{which.capitalize()} file has {report.examples} example(s), but must have at least 10 examples"
        cure = f"Add {10 - report.examples} or more; 50 to 100 usually show a clear change."
        return {"code": "invalid_n_examples", "message": f"{message}. {cure}", "param": param}
    if first.code in _FORMAT_CODES:
        message = f"The job failed due to a file format error in the {which} file. {_sentence(first, file_id)}"
        return {"code": "invalid_file_format", "message": message + _more(report), "param": param}
    message = f"The job failed due to an invalid {which} file. {_sentence(first, file_id)}"
    return {"code": _CODES.get(param, "invalid_training_file"), "message": message + _more(report), "param": param}


def status_details(report: Report) -> str | None:
    """The `status_details` of a file whose format is wrong; None for a good file.

    Too few rows, and rows that do not fit the method, are the job's errors.
    """
    first = next((one for one in report.errors if one.code not in _OF_THE_JOB), None)
    return None if first is None else _sentence(first, None) + _more(report)


def first_error(errors: Sequence[Finding]) -> Finding | None:
    """The error to name: one of a row's format before one that only counts rows."""
    return next((one for one in errors if one.code not in _OF_THE_JOB), None) or next(iter(errors), None)


def _sentence(found: Finding, file_id: str | None) -> str:
    name = f"Input file {file_id}" if file_id else "The file"
    match found.code:
        case "wrong_method":
            return f"Invalid file format. {name} does not fit the method. {found.message} {found.fix}"
        case "invalid_json" | "not_utf8" | "too_deep" | "lone_surrogate":
            fault = (found.said or found.message).rstrip(".").removeprefix("The ")
            return f"Invalid file format. Example {found.line} cannot be parsed. Error: {fault} (line {found.line})"
        case "missing_messages" if found.path == "messages" and "missing" in found.message:
            return f"Invalid file format. Example {found.line} is missing key 'messages'. {found.fix}"
        case "other_shape" | "unclear_shape" | "unclear_columns":
            fault = found.message.removeprefix("The row ")
            said = f" {fault}" if fault != found.message else f": {fault}"
            return f"Invalid file format. Example {found.line}{said} {found.fix}"
        case "extra_key":
            name = found.path.rpartition(".")[2]
            return f'Invalid file format. Example {found.line} contains an extra "{name}". {found.fix}'
    if found.line is None or found.code == "not_jsonl":  # whose sentence names the line itself
        return f"Invalid file format. {found.message} {found.fix}"
    place = _MESSAGE_PATH.search(found.path)
    message = f", message {int(place.group(1)) + 1}" if place else ""
    where = f" ({found.path})" if found.path else ""
    # The service puts nothing between its own words and the place; ours are a sentence of their own.
    colon = "" if found.message.startswith("Discriminator") else ":"
    return f"Invalid file format. Example {found.line}{message}{colon} {found.message.rstrip('.')}{where}. {found.fix}"


def _more(report: Report) -> str:
    others = report.error_count - 1
    if others <= 0:
        return ""
    return f" ({others} more error{'s' if others > 1 else ''} in this file; `tunesmith check FILE` lists them.)"
