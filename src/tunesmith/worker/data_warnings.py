"""Warnings about a job's data: harmful rows, and leaks into the validation file."""

from pathlib import Path

from tunesmith.check.rules.leaks import Index, compare
from tunesmith.check.scan.file_scan import FileScan
from tunesmith.moderation.report import ModerationReport
from tunesmith.moderation.rows import moderate_file
from tunesmith.moderation.scan_analyser import kept_moderation
from tunesmith.settings import Settings
from tunesmith.store import NewEvent
from tunesmith.store.rows import EventLevel


def moderation_notices(training: Path, scan: FileScan, settings: Settings) -> list[NewEvent]:
    """Events about the moderation of the training file.

    Raises DataError when the setting `moderation` is 'block' and it is not clean.

    A file in which everything was read and nothing flagged gives no event. What the pass over the file has kept is
    not moderated again.
    """
    if settings.moderation == "off":
        return []
    report = kept_moderation(scan, settings) or moderate_file(training, settings)
    if report is None:
        return []
    refusal = report.refusal(settings.moderation)
    if refusal is not None:
        raise refusal
    quiet = report.complete and not report.flagged_rows and not report.unread_rows
    return [] if quiet else [_moderation_event(report)]


def leak_notices(training: Index, validation: Index) -> list[NewEvent]:
    """An event if validation rows are in the training file, exactly or nearly."""
    found = compare(training, validation)
    count = len(found.exact) + len(found.near)
    if not count:
        return []
    first = min([*found.exact, *found.near])
    text = (
        f"{count} of the {found.rows} rows of the validation file {'is' if count == 1 else 'are'} also in the training "
        "file, exactly or nearly "
        f"(the first is line {first[0]}, line {first[1]} of the training file); the validation loss will look better "
        "than it is"
    )
    return [NewEvent(text, level="warn", data=found.to_json())]


def _moderation_event(report: ModerationReport) -> NewEvent:
    level: EventLevel = "warn" if report.flagged_rows or not report.complete else "info"
    return NewEvent(report.summary(), level=level, type="moderation_checks", data=report.to_json())
