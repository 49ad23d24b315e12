"""What `tunesmith fix` would do to a checked file, as a section of its report."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from tunesmith.check.fix.fix_result import FixResult
from tunesmith.check.fix.fixed_file import FixOptions, fix_file
from tunesmith.check.report.file_report import Report
from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject

MOST_BYTES = 8 * 1024 * 1024  # of a file that is fixed for the sake of a line in its report; about two seconds


def with_fix(report: Report, path: Path) -> Report:
    """The report with a section `fix` if `tunesmith fix` would change the file.

    The file is fixed for it, into a temporary folder; a large one is not.
    """
    if report.size > MOST_BYTES:
        return report
    with TemporaryDirectory(prefix="tunesmith-fix-") as folder:
        try:
            result = fix_file(path, Path(folder) / "fixed.jsonl", FixOptions(copy_sound=False))
        except InvalidRequest:  # nothing in it can be read
            return report
    if not result.rows_out or not (changes_of(result) or result.duplicates or result.empty):
        return report
    section: JsonObject = {
        "changed_rows": result.rows_out if result.rewritten else result.changed_rows,
        "removed_rows": result.duplicates + result.empty,
        "rejected_rows": result.rejected,
        "changes": {**changes_of(result)},
    }
    return replace(report, sections={**report.sections, "fix": section})


def changes_of(result: FixResult) -> dict[str, int]:
    """How many rows have each change, in the words of `tunesmith fix`."""
    return {
        **dict.fromkeys(result.rewritten, result.rows_out),
        **{f"converted {shape}": rows for shape, rows in result.converted.items()},
        **result.changed,
        **{f"dropped key {key}": rows for key, rows in result.dropped.items()},
    }


def fix_sentence(report: Report) -> str | None:
    """What `tunesmith fix` would do, in words; None where that is nothing."""
    section = report.sections.get("fix")
    if not isinstance(section, dict) or not isinstance(section["changes"], dict):
        return None
    rows, removed, rejected = (int(str(section[f"{what}_rows"])) for what in ("changed", "removed", "rejected"))
    done = []
    if rows:
        changes = ", ".join(f"{count:,} x {what}" for what, count in section["changes"].items())
        done.append(f"change {_rows(rows)}: {changes}")
    done += [f"remove {_rows(removed)}: duplicate or empty"] if removed else []
    done += [f"set aside {_rows(rejected)} that need a hand"] if rejected else []
    return f"`tunesmith fix {report.file}` would {'; '.join(done)}"


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"
