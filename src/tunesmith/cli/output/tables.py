"""How a check's report, an estimate and a loss mask look in a terminal of 80 columns."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from tunesmith.check.fix.fixed_file import FixResult
from tunesmith.check.report.file_report import Distribution, Report
from tunesmith.check.report.mask_preview import Preview, visible
from tunesmith.check.rules.leaks import Leaks
from tunesmith.cli.bases import LocalBase
from tunesmith.cli.output.terminal import duration, err, facts, listing, out, size
from tunesmith.estimate.job_estimate import BreakEven, Estimate
from tunesmith.estimate.prices import dollars
from tunesmith.rows.findings import Finding, grouped

BAR_BYTES = 4_000_000  # smaller files are read before a bar could be seen


class ReadingBar:
    """A bar while a large file is read; called with bytes done and bytes in all."""

    def __init__(self, name: str) -> None:
        columns = (TextColumn(f"reading {escape(name)}"), BarColumn(), DownloadColumn())
        # Drawn by the caller's own calls: with no thread to draw it, the check may fork its workers.
        quiet = not err().is_terminal
        self._progress = Progress(*columns, console=err(), transient=True, disable=quiet, auto_refresh=False)
        self._task = self._progress.add_task("", total=None, visible=False)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __call__(self, done: int, total: int) -> None:
        self._progress.update(self._task, completed=done, total=total, visible=total > BAR_BYTES, refresh=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()


def print_report(report: Report, base: LocalBase, limit: int) -> None:
    console = out()
    mark = "[green]✓ ready to train[/green]" if report.ok else f"[red]✗ {faults(report)}[/red]"
    if report.warning_count:
        mark += f", [yellow]{report.warning_count:,} warning{'' if report.warning_count == 1 else 's'}[/yellow]"
    console.print(f"[bold]{escape(visible(report.file))}[/bold]  {mark}")
    console.print(facts(_summary(report, base)))
    _print_findings("errors", report.errors, report.error_count, limit, report.counts)
    _print_findings("warnings", report.warnings, report.warning_count, limit, report.counts)
    _print_distributions(report)


def faults(report: Report) -> str:
    return f"{report.error_count:,} error{'' if report.error_count == 1 else 's'}"


def weights_missing(base: str) -> str:
    return f"{base} is not on this machine, so its tokens cannot be counted. Get it: tunesmith models pull {base}"


def _languages(report: Report) -> str:
    """`English 50%, Chinese 50%`; empty when nobody looked."""
    section = report.sections.get("languages")
    shares = section.get("shares") if isinstance(section, dict) else None
    if not isinstance(shares, dict):
        return ""
    return ", ".join(f"{escape(name)} {share:.0%}" for name, share in shares.items() if isinstance(share, float))


def _not_here(base: LocalBase) -> str:
    return f"[dim]{base.base.name} is not here to count: tunesmith models pull {base.base.name}[/dim]"


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
    if report.base is not None:
        about = "" if report.base.exact else f" (±{report.base.margin:.1%}, from {report.base.rows:,} rows)"
        found[""] = (
            f"[bold]{report.base.tokens:,}[/bold] an epoch as {base.base.name} counts{about},"
            f" {report.base.learned_tokens:,} learned"
        )
    elif base.renderer is None:
        found[""] = _not_here(base)
    return found


def _print_findings(
    title: str, findings: tuple[Finding, ...], count: int, limit: int, counts: Mapping[str, int] | None = None
) -> None:
    """One entry for lines with the same fault."""
    if not count:
        return
    colour = "red" if title == "errors" else "yellow"
    shown = grouped(findings, counts)[:limit]
    table = Table.grid(padding=(0, 1))
    table.add_column(min_width=2)
    table.add_column(max_width=14)
    for group in shown:
        one = group.first
        path = f"{one.path}: " if one.path else ""
        table.add_row("", Text(group.where, "bold"), Text.assemble(path, f"{one.message} ", (one.cure, "dim")))
    console = out()
    console.print(f"\n[{colour}]{title}[/{colour}]")
    console.print(table)
    hidden = count - sum(group.total for group in shown)
    if hidden > 0:
        console.print(f"  [dim]and {hidden:,} more (--findings {min(count, 100)}, or --json)[/dim]")


def _print_distributions(report: Report) -> None:
    rows: tuple[tuple[str, Distribution | None], ...] = (
        ("messages a row", report.per_row.messages),
        ("tokens a row (OpenAI)", report.per_row.tokens),
        ("learned tokens a row", report.per_row.learned_tokens),
        ("tokens a row (base)", report.base.lengths if report.base else None),
    )
    if not any(spread for _, spread in rows):
        return
    table = listing("", "min", "p5", "median", "p95", "max")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, spread in rows:
        if spread is not None:
            values = (spread.minimum, spread.p5, spread.median, spread.p95, spread.maximum)
            table.add_row(name, *(f"{value:,.0f}" for value in values))
    out().print()
    out().print(table)


def print_leaks(leaks: Leaks, limit: int) -> None:
    """What of the validation file stands in the training file; lines are the validation file's."""
    found = tuple(leaks.findings())
    if found:
        _print_findings("in the validation file", found, len(found), limit)
    else:
        out().print("\n[green]No row of the validation file stands in this one.[/green]")


def print_estimate(report: Report, estimate: Estimate, base: LocalBase) -> None:
    console = out()
    numbers = estimate.hyperparameters
    beta = "" if numbers.beta is None else f", beta {numbers.beta:g}"
    console.print(f"[bold]{escape(visible(report.file))}[/bold]  {estimate.examples:,} rows on {base.base.name}")
    shown = {
        "epochs": f"{numbers.n_epochs}",
        "batch size": f"{numbers.batch_size}",
        "learning rate": f"{numbers.learning_rate_multiplier:g} x the base rate{beta}",
        "steps": f"{estimate.total_steps:,} ({estimate.steps_per_epoch:,} an epoch)",
    }
    if estimate.trained_tokens is not None:
        about = "" if estimate.exact else "about "
        shown["trained here"] = (
            f"{about}[bold]{estimate.trained_tokens:,} tokens[/bold] ({estimate.learned_tokens:,} of them learned),"
            " on your own machine"
        )
    else:
        shown["trained here"] = _not_here(base)
    if estimate.seconds is not None:
        cost = f", {dollars(estimate.local_cost)}" if estimate.local_cost is not None else ""
        shown["time"] = f"about {duration(estimate.seconds)} on this machine{cost}"
    elif base.renderer is not None:
        shown["time"] = "[dim]not measured on this machine yet: add --measure[/dim]"
    if estimate.peak_memory_bytes is not None:
        shown["memory"] = f"about {size(estimate.peak_memory_bytes)} at the peak"
    if estimate.local_cost is not None:
        shown["cost"] = f"{dollars(estimate.local_cost)} of this machine's time"
    shown["at OpenAI"] = (
        f"{estimate.openai_tokens:,} tokens, [bold]{dollars(estimate.openai_cost)}[/bold] at"
        f" {dollars(estimate.price.training)} per 1K ({estimate.price.model}, {estimate.price.table})"
    )
    if estimate.break_even is not None:
        shown["pays back"] = _pays_back(estimate.break_even)
    console.print(facts(shown))


def _pays_back(found: BreakEven) -> str:
    prompt = f"the system prompt ({found.system_tokens:,.0f} tokens)"
    if found.calls is not None:
        return f"after {found.calls:,} calls without {prompt}"
    return f"never at OpenAI's prices: a tuned call without {prompt} costs more than a plain one with it"


def print_mask(previews: Iterable[Preview]) -> None:
    """What the first rows teach: learned text green between ⟦ ⟧, everything else dim."""
    console = out()
    console.print("\nWhat is learned stands in [green]⟦green⟧[/green]; the rest is only read.")
    for preview in previews:
        title = f" ({preview.title})" if preview.title else ""
        console.print(f"\n[bold]line {preview.line}[/bold]{title}")
        text = Text(preview.note, style="red")
        for span in preview.spans:
            said = visible(span.text)
            text.append(f"⟦{said}⟧" if span.learned else said, style="green" if span.learned else "dim")
        if preview.cut_tokens:
            text.append(f"\n… {preview.cut_tokens:,} tokens cut off at the limit", style="yellow")
        console.print(text)


def _not_mended(result: FixResult) -> str:
    if not result.rejected:
        return ""
    kept = f"kept in {escape(result.rejected_file)}" if result.rejected_file else "left out"
    return f"{result.rejected:,} row{'' if result.rejected == 1 else 's'}, {kept}"


def print_fix(result: FixResult, target: Path) -> None:
    out().print(f"[bold]{escape(str(target))}[/bold]  {result.rows_out:,} of {result.rows_in:,} rows")
    done = {
        "cured": ", ".join(f"{count:,} x {escape(cure)}" for cure, count in result.changed.items()),
        "left out": ", ".join(
            f"{count:,} {what}{'' if count == 1 else 's'}"
            for count, what in (
                (result.duplicates, "duplicate row"),
                (result.empty, "empty row"),
                (result.blank_lines, "blank line"),
            )
            if count
        ),
        "not mended": _not_mended(result),
    }
    out().print(facts({name: text for name, text in done.items() if text}))
    _print_findings("errors", tuple(result.log.errors), result.log.total("error"), 10)
