"""Room on the disk for what callers send: quotas, and a reserve.

A full disk stops every project's jobs, so an upload ends before it is full. What is not covered: what jobs write, and
several uploads that pass the quota together.
"""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from tunesmith.api.http.context import Context
from tunesmith.errors import DiskFull, InvalidRequest
from tunesmith.settings import Settings

LOOK_BYTES = 8 * 1024 * 1024  # how often a long upload looks at the disk again
MOST_RESERVE = 2 * 1024**3


def demand_room(context: Context, wanted: int) -> None:
    """Raises InvalidRequest beyond the quota, DiskFull beyond the disk."""
    demand_quota(context, wanted)
    demand_disk(context.settings, wanted)


def demand_quota(context: Context, wanted: int) -> None:
    """Raises InvalidRequest for more than the setting `limit_project_bytes`."""
    most = context.settings.limit_project_bytes
    if not most:
        return
    used = context.store.files.used_bytes() + context.store.uploads.pending_bytes()
    if used + wanted > most:
        raise InvalidRequest(
            f"Project {context.project} has {used:,} bytes of files and open uploads, and {wanted:,} more are over its "
            f"quota of {most:,} (setting limit_project_bytes). Delete files that no job needs.",
            code="project_quota_exceeded",
        )


def demand_disk(settings: Settings, wanted: int) -> None:
    """Raises DiskFull when less than the reserve would stay free."""
    disk = shutil.disk_usage(_existing(settings.paths.blobs))
    given = settings.disk_reserve_bytes
    reserve = min(disk.total // 10, MOST_RESERVE) if given is None else given
    if reserve and disk.free - wanted < reserve:
        raise DiskFull(
            f"The server's disk has {disk.free:,} bytes free, of which {reserve:,} are kept for running jobs (setting "
            f"disk_reserve_bytes); {wanted:,} more do not fit. Free some space there, then send this again.",
            code="insufficient_storage",
        )


def within_room(context: Context, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Passes chunks of an upload on, while there is room for them."""
    written = looked = 0
    for chunk in chunks:
        written += len(chunk)
        if written - looked >= LOOK_BYTES:
            demand_quota(context, written)
            demand_disk(context.settings, len(chunk))
            looked = written
        yield chunk


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())
