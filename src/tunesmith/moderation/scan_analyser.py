"""Offline moderation within the check's pass over a file.

So an upload's rows need not be read again for its jobs.

A moderation service is not asked then: an upload must not wait for it, nor fail with it.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from tunesmith.check.rules.duplicates import ROW_SKETCHES
from tunesmith.check.scan.analysers import DEFAULT_ANALYSERS
from tunesmith.check.scan.batch import Batch
from tunesmith.check.scan.file_scan import FileScan
from tunesmith.check.scan.result import ChunkResult, Partial
from tunesmith.jsonvalue import JsonObject
from tunesmith.moderation.moderator import offline_moderator
from tunesmith.moderation.report import ModerationCounts, ModerationReport
from tunesmith.moderation.rows import line_texts, moderate_rows
from tunesmith.rows.findings import Finding

if TYPE_CHECKING:
    from tunesmith.settings import Settings

NAME = "tunesmith.moderation.scan_analyser:OfflineModeration"


class OfflineModeration:
    """The analyser: keeps what the word rules say of the rows.

    It reports nothing; a job does.
    """

    def analyse(self, data: bytes, batch: Batch, result: ChunkResult) -> Partial:
        """What the word rules say of a chunk's rows."""
        rows = (found for found in map(line_texts, batch.rows) if found[1])
        report = moderate_rows(rows, offline_moderator())
        return Partial({"backend": report.backend, "counts": _to_json(report)})

    def finish(self, partials: Sequence[Partial], whole: ChunkResult) -> tuple[list[Finding], JsonObject]:
        """Keeps what they say of all rows beside the report."""
        counts = ModerationCounts()
        for partial in partials:
            counts.merge(_counts_from(partial.data))
        whole.partials[NAME] = Partial({"backend": offline_moderator().name, "counts": _to_json(counts)})
        return [], {}


def job_analysers(settings: "Settings") -> tuple[str, ...]:
    """The analysers that an upload and its jobs share, so that one pass serves both."""
    offline = settings.moderation != "off" and settings.moderation_url is None
    return (*DEFAULT_ANALYSERS, ROW_SKETCHES, *([NAME] if offline else []))


def kept_moderation(scan: FileScan, settings: "Settings") -> ModerationReport | None:
    """The moderation that a pass has kept.

    None where it has none by the moderator of these settings.
    """
    kept = scan.rows.partials.get(NAME)
    moderator = offline_moderator()
    if settings.moderation_url is not None or kept is None or kept.data["backend"] != moderator.name:
        return None
    report = ModerationReport(backend=moderator.name, coverage=moderator.coverage)
    report.merge(_counts_from(kept.data))
    return report


def _to_json(counts: ModerationCounts) -> JsonObject:
    return {name: value for name, value in asdict(counts).items() if name in ModerationCounts.__slots__}


def _counts_from(data: JsonObject) -> ModerationCounts:
    from pydantic import TypeAdapter

    return TypeAdapter(ModerationCounts).validate_python(data["counts"])
