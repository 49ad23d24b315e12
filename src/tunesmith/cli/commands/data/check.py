"""`tunesmith check`: what is in a training file, without a server."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli.exits import CommandError, Exit
from tunesmith.cli.options import AsJson, Base, DataDir, Dataset, LearningRateMultiplier, RowMethod
from tunesmith.cli.signature import takes

if TYPE_CHECKING:
    from tunesmith.check.report.file_report import Report
    from tunesmith.cli.bases import LocalBase
    from tunesmith.settings import Settings

PREVIEWED_ROWS = 5  # of the HTML report


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """The options of `tunesmith check`."""

    file: Dataset
    base: Base = None
    method: RowMethod = None
    show: Annotated[int, typer.Option(min=0, help="Also show what the first N rows teach, token by token.")] = 0
    near_duplicates: Annotated[
        bool, typer.Option("--near-duplicates", help="Also look for rows that nearly repeat others (slower).")
    ] = False
    moderation: Annotated[
        bool, typer.Option("--moderation", help="Also moderate the texts, as a job does before it trains (slower).")
    ] = False
    validation: Annotated[
        Path | None,
        typer.Option(help="Also check this validation file, and look for its rows in FILE.", show_default=False),
    ] = None
    findings: Annotated[int, typer.Option(min=1, help="How many findings to print; all are counted.")] = 20
    lr_multiplier: LearningRateMultiplier = None
    html: Annotated[
        Path | None, typer.Option(help="Also write the report to this file, as one HTML page.", show_default=False)
    ] = None
    as_json: AsJson = False
    data_dir: DataDir = None


@takes(CheckOptions)
def check(options: CheckOptions) -> None:
    """Check a training file: every fault with its line and how to fix it.

    The exit code is 1 if a job would refuse the file.
    """
    from tunesmith.check.fix.preview import with_fix
    from tunesmith.cli.bases import weights_missing
    from tunesmith.cli.configure import load_settings
    from tunesmith.cli.dataset import DatasetCheck, check_dataset, require_target
    from tunesmith.cli.output.estimate_table import warn_of_rate

    settings = load_settings(options.data_dir)
    require_target(options.html)
    warn_of_rate(options.lr_multiplier, settings.rate_to_multiply)
    request = DatasetCheck(options.file, options.base, options.method, near_duplicates=options.near_duplicates)
    base, report = check_dataset(request, settings)
    report = _moderated(options.file, report, settings) if options.moderation else report
    report = with_fix(report, options.file)
    report = _with_validation(options, options.validation, report, settings) if options.validation else report
    if options.html is not None:
        _write_html(options.html, options.file, report, base)
    _print(options, base, report)
    if options.show and base.renderer is None:
        raise CommandError(weights_missing(base))
    raise typer.Exit(Exit.OK if report.ok else Exit.FAILED)


def _print(options: CheckOptions, base: "LocalBase", report: "Report") -> None:
    from tunesmith.check.report.mask_preview import preview_rows
    from tunesmith.cli.output.check_report import print_report
    from tunesmith.cli.output.mask import print_mask
    from tunesmith.cli.output.terminal import print_json

    if options.as_json:
        print_json(report.to_json())
        return
    print_report(report, base, options.findings)
    if options.show and base.renderer is not None:
        print_mask(preview_rows(options.file, base.renderer, options.show, base.max_tokens))


def _with_validation(options: CheckOptions, file: Path, report: "Report", settings: "Settings") -> "Report":
    """Adds what a job would find in the validation file, which is read for the same method."""
    from tunesmith.check.report.validation_section import with_validation
    from tunesmith.check.rules.file_rules import method_of
    from tunesmith.check.rules.leaks import find_leaks
    from tunesmith.cli.dataset import DatasetCheck, check_dataset

    method = options.method or method_of(report.kind)
    _, validation = check_dataset(DatasetCheck(file, options.base, method, min_examples=1), settings)
    return with_validation(report, validation, find_leaks(options.file, file))


def _write_html(target: Path, file: Path, report: "Report", base: "LocalBase") -> None:
    from tunesmith.check.report.mask_preview import preview_rows
    from tunesmith.cli.output.html_report import report_html
    from tunesmith.cli.output.terminal import note
    from tunesmith.estimate.job_estimate import estimate, resolve_hyperparameters

    previews = []
    if base.renderer is not None:
        previews = list(preview_rows(file, base.renderer, PREVIEWED_ROWS, base.max_tokens))
    guess = estimate(report, resolve_hyperparameters(None, report)) if report.ok else None
    target.write_text(report_html(report, guess, previews), encoding="utf-8")
    note(f"Report written to {target}.")


def _moderated(file: Path, report: "Report", settings: "Settings") -> "Report":
    """Adds the moderation's findings to the report, whatever the setting `moderation`."""
    from tunesmith.cli.output.reading_bar import ReadingBar
    from tunesmith.cli.output.terminal import note
    from tunesmith.moderation.check_section import with_moderation
    from tunesmith.moderation.rows import moderate_file

    with ReadingBar(file.name) as progress:
        moderated = moderate_file(file, settings.model_copy(update={"moderation": "warn"}), progress)
    if moderated is None:
        return report
    note(moderated.summary())
    return with_moderation(report, moderated)
