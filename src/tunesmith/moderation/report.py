"""The check's report with the moderation's in it."""

from dataclasses import replace

from tunesmith.check.report.file_report import Report
from tunesmith.moderation.rows import ModerationReport
from tunesmith.rows.findings import LISTED_WARNINGS


def with_moderation(report: Report, judged: ModerationReport) -> Report:
    """`report` with a section `moderation` and a warning for each flagged row, of which the first few are listed."""
    found = [one for _, one in zip(range(LISTED_WARNINGS), judged.findings(), strict=False)]
    counts = {**report.counts, "flagged": judged.flagged_rows} if judged.flagged_rows else report.counts
    return replace(
        report,
        counts=counts,
        warnings=(*report.warnings, *found),
        warning_count=report.warning_count + judged.flagged_rows,
        sections={**report.sections, "moderation": judged.to_json()},
    )
