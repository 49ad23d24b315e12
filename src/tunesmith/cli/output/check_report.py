"""How a check's report looks in a terminal."""

from rich.markup import escape

from tunesmith.check.report.file_report import Distribution, Report
from tunesmith.check.report.mask_preview import visible
from tunesmith.check.rules.leaks import Leaks
from tunesmith.cli.bases import LocalBase
from tunesmith.cli.output.findings import print_findings
from tunesmith.cli.output.terminal import facts, listing, not_here, out, plural, size


def print_report(report: Report, base: LocalBase, limit: int) -> None:
    """Prints verdict, counts, at most `limit` errors and warnings each, distributions."""
    mark = "[green]✓ ready to train[/green]" if report.ok else f"[red]✗ {error_count(report)}[/red]"
    if report.warning_count:
        mark += f", [yellow]{plural(report.warning_count, 'warning')}[/yellow]"
    out().print(f"[bold]{escape(visible(report.file))}[/bold]  {mark}")
    out().print(facts(_summary(report, base)))
    print_findings("errors", report.errors, report.error_count, limit, report.counts)
    print_findings("warnings", report.warnings, report.warning_count, limit, report.counts)
    _print_distributions(report)


def print_leaks(leaks: Leaks, limit: int) -> None:
    """Prints the rows of the validation file that are in the training file too.

    Lines are those of the validation file.
    """
    found = tuple(leaks.findings())
    if found:
        print_findings("in the validation file", found, len(found), limit)
    else:
        out().print("\n[green]No row of the validation file appears in this file.[/green]")


def error_count(report: Report) -> str:
    """The number of errors in words: `1 error`, `12 errors`."""
    return plural(report.error_count, "error")


def _summary(report: Report, base: LocalBase) -> dict[str, str]:
    bad = f", [red]{report.bad_rows:,} of them faulty[/red]" if report.bad_rows else ""
    found = {
        "rows": f"{report.examples:,} {report.kind or 'of no known kind'}{bad}",
        "size": f"{size(report.size)}, checked in {report.seconds:.2f} s",
    }
    if report.roles:
        found["messages"] = ", ".join(f"{count:,} {escape(role)}" for role, count in report.roles.items())
    if languages := _languages(report):
        found["languages"] = languages
    found["tokens"] = (
        f"{report.openai.tokens:,} an epoch as OpenAI counts ({report.openai.encoding}),"
        f" {report.openai.learned_tokens:,} learned"
    )
    if base_tokens := _base_tokens(report, base):
        found[""] = base_tokens
    return found


def _base_tokens(report: Report, base: LocalBase) -> str:
    """The base model's own count; empty if it did not count, as for a faulty file."""
    if report.base is None:
        return not_here(base.name) if base.renderer is None else ""
    about = "" if report.base.exact else f" (±{report.base.margin:.1%}, from {report.base.rows:,} rows)"
    return (
        f"[bold]{report.base.tokens:,}[/bold] an epoch as {base.name} counts{about},"
        f" {report.base.learned_tokens:,} learned"
    )


def _languages(report: Report) -> str:
    """`English 50%, Chinese 50%`; empty when languages were not looked for."""
    section = report.sections.get("languages")
    shares = section.get("shares") if isinstance(section, dict) else None
    if not isinstance(shares, dict):
        return ""
    return ", ".join(f"{escape(name)} {share:.0%}" for name, share in shares.items() if isinstance(share, float))


def _print_distributions(report: Report) -> None:
    rows: tuple[tuple[str, Distribution | None], ...] = (
        ("messages a row", report.per_row.messages),
        ("tokens a row (OpenAI)", report.per_row.tokens),
        ("learned tokens a row", report.per_row.learned_tokens),
        ("tokens a row (base)", report.base.lengths if report.base else None),
    )
    if not any(spread for _, spread in rows):
        return
    table = listing("", "min", "p5", "median", "p95", "max", numbers=5)
    for name, spread in rows:
        if spread is not None:
            values = (spread.minimum, spread.p5, spread.median, spread.p95, spread.maximum)
            table.add_row(name, *(f"{value:,.0f}" for value in values))
    out().print()
    out().print(table)
