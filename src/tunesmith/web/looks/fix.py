"""What `fix` would change in a file, or the fixed file itself."""

from pathlib import Path
from tempfile import TemporaryDirectory

from tunesmith.check.fix.fix_result import FixResult, RowChange
from tunesmith.check.fix.fixed_file import FixOptions, fix_file
from tunesmith.check.fix.preview import changes_of
from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.web.looks.diffs import Part, row_diff

SHOWN_ROWS = 30
LEFT_OUT = 100  # rows that are named, of those that are left out


def fix(values: JsonObject) -> JsonObject:
    """The changes, with the first rows that are changed.

    With a `target`, the fixed file is written there instead. A file in
    which nothing can be read has `refusal`, the sentence that says why.
    """
    source, target = Path(str(values["path"])), values.get("target")
    try:
        if target is not None:
            result = fix_file(source, Path(str(target)), FixOptions(copy_sound=False, overwrite=True))
            return {"written": result.is_written, "rows": result.rows_out}
        with TemporaryDirectory(prefix="tunesmith-fix-") as folder:
            return _shown(fix_file(source, Path(folder) / "fixed.jsonl", FixOptions(copy_sound=False, show=SHOWN_ROWS)))
    except InvalidRequest as error:
        if target is not None:
            raise
        return {"refusal": error.message}


def _shown(result: FixResult) -> JsonObject:
    changed = result.rows_out if result.rewritten else result.changed_rows
    return {
        "rows_in": result.rows_in,
        "rows_out": result.rows_out,
        "changed": changed,
        "duplicates": result.duplicates,
        "empty": result.empty,
        "rejected": result.rejected,
        "changes": {**changes_of(result)},
        "unchanged": not (changes_of(result) or result.duplicates or result.empty),
        "shown": [_row(one) for one in result.shown],
        **_left_out(result),
    }


def _left_out(result: FixResult) -> JsonObject:
    """The rows that are not in the fixed file, by line, each with why; the first of them where they are many."""
    faults: list[JsonObject] = [
        {"line": one.line, "path": one.path, "key": None, "text": one.text, "cure": one.fix}
        for one in result.log.errors
    ]
    others: list[JsonObject] = [
        {"line": line, "path": "", "key": key, "text": "", "cure": ""} for line, key in result.dropped_rows
    ]
    found = sorted([*faults, *others], key=_line)[:LEFT_OUT]
    return {"left_out": [*found], "left_out_rows": len({_line(one) for one in found})}


def _line(one: JsonObject) -> int:
    return int(str(one["line"]))


def _row(change: RowChange) -> JsonObject:
    before = change.before.decode("utf-8", "replace")
    after = None if change.after is None else change.after.decode("utf-8", "replace")
    old, new = row_diff(before, after or "")
    return {
        "line": change.line,
        "changes": list(change.changes),
        "before": _parts(old),
        "after": None if after is None else _parts(new),
    }


def _parts(parts: list[Part]) -> list[JsonValue]:
    return [{"differs": differs, "text": text} for differs, text in parts]
