"""What a validation file adds to the report: its own faults, and leaks."""

from dataclasses import replace

from tunesmith.check.report.file_report import Report
from tunesmith.check.rules.leaks import Leaks
from tunesmith.rows.findings import LISTED_WARNINGS, Finding, in_order


def with_validation(report: Report, validation: Report, leaks: Leaks) -> Report:
    """The report on both files of a job.

    It is as good as the worse of the two. Each leaked row is a warning, of which the first few are listed.
    """
    found = list(leaks.findings())
    listed = [*_first(found, "leak"), *_first(found, "near_leak")]
    leaked = {"leak": len(leaks.exact), "near_leak": len(leaks.near)}
    return replace(
        report,
        counts={**report.counts, **{code: count for code, count in leaked.items() if count}},
        warnings=in_order((*report.warnings, *listed)),
        sections={**report.sections, "leaks": leaks.to_json()},
        validation=validation,
    )


def _first(found: list[Finding], code: str) -> list[Finding]:
    return [one for one in found if one.code == code][:LISTED_WARNINGS]
