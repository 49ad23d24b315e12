"""What `tunesmith fix` did to a file."""

from pathlib import Path

from rich.markup import escape

from tunesmith.check.fix.fixed_file import FixResult
from tunesmith.cli.output.findings import print_findings
from tunesmith.cli.output.terminal import facts, out, plural

SHOWN_ERRORS = 10


def print_fix(result: FixResult, target: Path) -> None:
    """Prints what was fixed, what was removed, and the errors that remain."""
    out().print(f"[bold]{escape(str(target))}[/bold]  {result.rows_out:,} of {result.rows_in:,} rows")
    done = {"fixed": _fixed(result), "removed": _removed(result), "not fixed": _rejected(result)}
    out().print(facts({name: text for name, text in done.items() if text}))
    print_findings(
        "errors", tuple(result.log.errors), result.log.total("error"), SHOWN_ERRORS, more="tunesmith check lists them"
    )


def _fixed(result: FixResult) -> str:
    return ", ".join(f"{count:,} x {escape(fix)}" for fix, count in result.changed.items())


def _removed(result: FixResult) -> str:
    removed = (
        (result.duplicates, "duplicate row"),
        (result.empty, "empty row"),
        (result.blank_lines, "blank line"),
    )
    return ", ".join(plural(count, what) for count, what in removed if count)


def _rejected(result: FixResult) -> str:
    if not result.rejected:
        return ""
    kept = f"kept in {escape(result.rejected_file)}" if result.rejected_file else "left out"
    return f"{plural(result.rejected, 'row')}, {kept}"
