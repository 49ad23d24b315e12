"""The moderation of a file as a section of the check's report on it."""

from dataclasses import replace

from tunesmith.check.report.file_report import Report
from tunesmith.moderation.report import ModerationReport
from tunesmith.rows.findings import LISTED_WARNINGS, in_order


def with_moderation(report: Report, moderated: ModerationReport) -> Report:
    """The report with a section `moderation`.

    Each flagged row is a warning, of which the first few are listed.
    """
    found = [one for _, one in zip(range(LISTED_WARNINGS), moderated.findings(), strict=False)]
    counts = {**report.counts, "flagged": moderated.flagged_rows} if moderated.flagged_rows else report.counts
    return replace(
        report,
        counts=counts,
        warnings=in_order((*report.warnings, *found)),
        sections={**report.sections, "moderation": moderated.to_json()},
    )
