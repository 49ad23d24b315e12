"""What `tunesmith fix` did to a file."""

from pathlib import Path

from rich.markup import escape

from tunesmith.check.fix.fix_result import FixResult
from tunesmith.cli.output.findings import print_findings
from tunesmith.cli.output.terminal import facts, out, plural, print_table

NO_ANSWERS = (
    "the rows end with the user and have no answer to learn: no job takes them until it is added as last message"
)


def print_fix(result: FixResult, source: Path, target: Path, findings: int) -> None:
    """Prints what was converted, fixed and removed, and the errors that remain."""
    out().print(_headline(result, source, target))
    done = {
        "converted": _counts(result.converted),
        "rewritten": escape(", ".join(result.rewritten)),
        "fixed": _counts(result.changed),
        "dropped keys": _counts(result.dropped),
        "removed": _removed(result),
        "not fixed": _rejected(result),
        "note": NO_ANSWERS if result.kind == "reinforcement" else "",
    }
    shown = {name: text for name, text in done.items() if text}
    if shown:
        print_table(facts(shown))
    print_findings(
        "errors", tuple(result.log.errors), result.log.total("error"), findings, more="--findings {}, or --json"
    )


def _headline(result: FixResult, source: Path, target: Path) -> str:
    rows = f"{result.rows_out:,} of {result.rows_in:,} rows"
    if not result.rows_out:
        return f"[bold]{escape(str(source))}[/bold]  no row can be used as it is; nothing was written"
    if not result.is_written:
        return f"[bold]{escape(str(source))}[/bold]  nothing to fix: all {rows} are fine; nothing was written"
    same = " (nothing to fix: a copy)" if result.is_unchanged else ""
    return f"[bold]{escape(str(target))}[/bold]  {rows}{same}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} x {escape(what)}" for what, count in counts.items())


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
    if not result.is_written:
        return plural(result.rejected, "row")
    kept = f"kept in {escape(result.rejected_file)}" if result.rejected_file else "left out"
    return f"{plural(result.rejected, 'row')}, {kept}"
