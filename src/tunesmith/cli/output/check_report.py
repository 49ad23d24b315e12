"""How a check's report looks in a terminal."""

from rich.markup import escape

from tunesmith.check.fix.preview import fix_sentence
from tunesmith.check.report.file_report import Distribution, Report
from tunesmith.check.report.mask_preview import visible
from tunesmith.check.rules.file_rules import method_of
from tunesmith.cli.bases import LocalBase
from tunesmith.cli.output.findings import print_findings
from tunesmith.cli.output.terminal import facts, listing, not_here, out, percentages, plural, print_table, size


def print_report(report: Report, base: LocalBase, limit: int) -> None:
    """Prints verdict, counts, at most `limit` errors and warnings each, distributions."""
    out().print(f"[bold]{escape(visible(report.file))}[/bold]  {_verdict(report)}")
    print_table(facts(_summary(report, base)))
    more = "--findings {}, or --json"
    print_findings("errors", report.errors, report.error_count, limit, counts=report.counts, more=more)
    if (held_out := report.validation) is not None:
        title = "errors in the validation file"
        print_findings(title, held_out.errors, held_out.error_count, limit, counts=held_out.counts, more=more)
    print_findings("warnings", report.warnings, report.warning_count, limit, counts=report.counts, more=more)
    if held_out is not None and not report.counts.keys() & {"leak", "near_leak"}:
        out().print("\n[green]No row of the validation file appears in this file.[/green]")
    if (fixable := fix_sentence(report)) is not None:
        out().print(f"\n{escape(visible(fixable))}")
    _print_distributions(report)


def _verdict(report: Report) -> str:
    """The first line's end: whether a job takes the file, and by which method if not by the usual one."""
    mark = f"[red]✗ {error_count(report)}[/red]"
    if report.ok:
        method = method_of(report.kind)
        mark = f"[green]✓ ready to train{' with --method dpo' if method == 'dpo' else ''}[/green]"
    elif report.validation is not None and not report.validation.ok:
        own = f"{error_count(report)}, " if report.error_count else ""
        mark = f"[red]✗ {own}{error_count(report.validation)} in the validation file[/red]"
    if report.warning_count:
        mark += f", [yellow]{plural(report.warning_count, 'warning')}[/yellow]"
    return mark


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
    if split := split_sentence(report):
        found["examples"] = split
    return found


def split_sentence(report: Report) -> str:
    """How many rows are trained as several examples; empty where none is."""
    base = report.base
    if base is None or not base.split_rows:
        return ""
    about, are = "" if base.exact else "about ", "is" if base.split_rows == 1 else "are"
    return (
        f"{about}{base.trained_examples:,}: {about}{plural(base.split_rows, 'row')} {are} split into one for each"
        " learned answer, as the base's template rewrites earlier ones (see --show)"
    )


def _base_tokens(report: Report, base: LocalBase) -> str:
    """The base model's own count; empty if it did not count, as for a faulty file."""
    if report.base is None:
        return not_here(base.name) if base.renderer is None else ""
    about = "" if report.base.exact else f" (±{report.base.margin:.1%}, from {plural(report.base.rows, 'row')})"
    return (
        f"[bold]{report.base.tokens:,}[/bold] an epoch as {base.name} counts{about},"
        f" {report.base.learned_tokens:,} learned"
    )


def _languages(report: Report) -> str:
    """`English 50%, Chinese 50%`; empty when languages were not looked for."""
    section = report.sections.get("languages")
    shares = section.get("shares") if isinstance(section, dict) else None
    if not isinstance(section, dict) or not isinstance(shares, dict):
        return ""
    parts = percentages({name: share for name, share in shares.items() if isinstance(share, float)})
    told = ", ".join(f"{escape(name)} {percent}%" for name, percent in parts.items())
    short = section.get("rows_too_short")
    if not isinstance(short, int) or not short:
        return told
    rows = f"{plural(short, 'row')} too short to tell"
    return f"{told} ({rows})" if told else f"unknown: {rows}"


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
    print_table(table)
