"""The first page: what runs, what is new, what went wrong, how much room there is."""

from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith.settings import Settings
from tunesmith.store import ACTIVE, JobRow, JobStatus, ScopedStore
from tunesmith.system.disk import disk_bytes, free_bytes
from tunesmith.system.memory import free_memory, total_memory
from tunesmith.web.live.feed import Feeds
from tunesmith.web.views.job_line import JobLine, job_line
from tunesmith.web.views.sparkline import sparkline

MOST_ACTIVE, MOST_MODELS, MOST_FAILED = 8, 5, 3


@dataclass(frozen=True, slots=True)
class Room:
    """How much of a thing is free."""

    free: int
    total: int

    @property
    def used(self) -> int:
        """What is taken."""
        return max(0, self.total - self.free)

    @property
    def scarce(self) -> bool:
        """Whether less than a tenth is free."""
        return self.free * 10 < self.total


@dataclass(frozen=True, slots=True)
class Overview:
    """All that the page shows; `empty` where nothing was ever trained here."""

    active: Sequence[JobLine]
    more_active: bool
    models: Sequence[JobLine]
    failed: Sequence[JobLine]
    disk: Room
    memory: Room
    empty: bool


def overview_of(store: ScopedStore, feeds: Feeds, settings: Settings) -> Overview:
    """Reads it; for a thread."""
    progress, root = store.progress, settings.paths.root
    active = progress.jobs(ACTIVE, limit=MOST_ACTIVE)
    done = progress.jobs((JobStatus.SUCCEEDED,), limit=2 * MOST_MODELS).data  # some models may have been deleted
    usable = {one.name for one in store.models.among([row.fine_tuned_model for row in done if row.fine_tuned_model])}
    models = [row for row in done if row.fine_tuned_model in usable]
    failed = progress.jobs((JobStatus.FAILED,), limit=MOST_FAILED).data
    return Overview(
        active=[_drawn(row, feeds) for row in active.data],
        more_active=active.has_more,
        models=[job_line(row) for row in models[:MOST_MODELS]],
        failed=[job_line(row) for row in failed],
        disk=Room(free_bytes(root), disk_bytes(root)),
        memory=Room(free_memory(), total_memory()),
        empty=not store.jobs.page(limit=1).data,
    )


def _drawn(row: JobRow, feeds: Feeds) -> JobLine:
    if not row.last_step:
        return job_line(row)
    feed = feeds.of(row.id)
    feed.refresh()  # once: the curve of a very long job is whole a look later
    return job_line(row, feed.metrics, sparkline(feed.points().get("train_loss", ())))
