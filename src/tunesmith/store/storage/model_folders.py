"""Folders of tuned models, checkpoints and progress in object storage.

Their keys are their paths in the data directory. A folder is put file by file, then `digests.json` with the SHA-256
of each, and what makes it complete last: a model's `manifest.json`, a progress's `state.json`. So a folder exists
once that file does. It does not change afterwards, but for the cards that are written beside a model at its job's
end.
"""

import json
import os
import shutil
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from weakref import WeakValueDictionary

import structlog

from tunesmith.errors import ServerFault
from tunesmith.store.objects.blobs import stream_to
from tunesmith.store.storage.bucket import GIB, RECENT_SECONDS, Bucket, StorageUnavailable
from tunesmith.system.atomic_write import make_directories, rename_durably, sha256_of, write_atomically

log = structlog.get_logger(__name__)

MANIFEST, STATE, DIGESTS, JOURNAL = "manifest.json", "state.json", "digests.json", "journal.jsonl"
PROGRESS = "progress"
PAUSE_SECONDS = 30.0
FETCHING = ".fetching"  # ends the name of a folder that is not complete yet
SMALL = 1024**2  # a file this small, such as a card, is put again; a larger one with its size is there already


class ModelFolders:
    """Folders that are kept in the data directory alone: there is nothing to do."""

    def publish(self, folder: Path) -> None:
        """Make a model's complete folder known to all machines.

        One that is gone or incomplete is passed over.
        """

    def fetch(self, folder: Path) -> None:
        """Make sure that a model's folder is on this machine, if there is one anywhere."""

    def publish_progress(self, output: Path) -> None:
        """Make the newest progress below a job's output known to all machines."""

    def fetch_progress(self, output: Path) -> None:
        """Make sure that a job's newest progress is on this machine."""

    def keep_only(self, output: Path, needed: Collection[Path]) -> None:
        """Remove what no needed folder has of a job's output, but not on this disk."""


class BucketFolders(ModelFolders):
    """Folders below `root`, the data directory, that are in a bucket too.

    Others are left where they are. Models that were fetched, which have `digests.json`, are a cache of `gib`; one
    that was trained here stays. Each method raises StorageUnavailable, but for `publish_progress` and `keep_only`:
    their work may be done later.
    """

    def __init__(self, root: Path, bucket: Bucket, gib: float) -> None:
        self._root = root
        self._bucket = bucket
        self._limit = int(gib * GIB)
        self._scanning = threading.Lock()
        self._published: dict[Path, str] = {}  # a job's output -> its newest progress in the bucket
        self._again_at = 0.0  # by the monotonic clock; the storage did not answer
        self._lock = threading.Lock()
        self._turns: WeakValueDictionary[str, _Turn] = WeakValueDictionary()

    @property
    def bucket(self) -> Bucket:
        """Where the folders are."""
        return self._bucket

    def publish(self, folder: Path) -> None:
        """Put a model's folder. Can be repeated."""
        self._put(folder, MANIFEST)

    def fetch(self, folder: Path) -> None:
        """Fetch a model's folder where it is not here.

        Raises ServerFault for bytes that are not those that were put.
        """
        key = self._key(folder)
        if key is None or _is_here(folder):
            return
        with self._turn(key):
            if not _is_here(folder):
                self._get(key, folder, MANIFEST)

    def publish_progress(self, output: Path) -> None:
        """Put the newest progress and the journal, and remove older progress.

        While the storage does not answer, another machine would go on from an older one.
        """
        newest = _newest(path.name for path in (output / PROGRESS).glob("step-*"))
        key = self._key(output)
        if key is None or newest is None or self._published.get(output) == newest or time.monotonic() < self._again_at:
            return
        try:
            self._put_progress(output, key, newest)
        except StorageUnavailable as error:
            self._again_at = time.monotonic() + PAUSE_SECONDS
            log.warning("a job's progress is on this machine alone", job=output.parent.name, error=str(error))

    def _put_progress(self, output: Path, key: str, newest: str) -> None:
        place = f"{key}/{PROGRESS}/"
        steps = {one.key: one.key.removeprefix(place).partition("/")[0] for one in self._bucket.list(place)}
        is_behind = any(step > newest for one, step in steps.items() if one.endswith(f"/{STATE}"))
        if not is_behind:  # else another worker has taken the job from us, and is further
            journal = output / JOURNAL
            if journal.is_file():  # first: what is in it beyond the progress is cut off by whoever resumes
                self._bucket.put_bytes(f"{key}/{JOURNAL}", journal.read_bytes())
            if not self._put(output / PROGRESS / newest, STATE):
                return
            self._delete([one for one, step in steps.items() if step < newest])
        self._published[output] = newest

    def fetch_progress(self, output: Path) -> None:
        """Fetch the newest progress and the journal, unless those here are as new."""
        key = self._key(output)
        if key is None:
            return
        place = f"{key}/{PROGRESS}"
        ends = [one.key.split("/")[-2] for one in self._bucket.list(place) if one.key.endswith(f"/{STATE}")]
        newest, here = _newest(ends), _newest(path.name for path in (output / PROGRESS).glob("step-*"))
        if newest is None or (here is not None and here >= newest):
            return
        make_directories(output / PROGRESS)
        journal = self._bucket.find(f"{key}/{JOURNAL}")
        if journal is not None:
            content = b"".join(self._bucket.read_whole(journal.key, journal.bytes))
            write_atomically(output / JOURNAL, content)
        self._get(f"{place}/{newest}", output / PROGRESS / newest, STATE)

    def keep_only(self, output: Path, needed: Collection[Path]) -> None:
        """Remove the objects of a job's output that no needed folder has."""
        key = self._key(output)
        if key is None:
            return
        kept = [f"{one}/" for folder in needed if (one := self._key(folder)) is not None]
        try:
            found = [one.key for one in self._bucket.list(key)]
            self._delete([one for one in found if not any(one.startswith(folder) for folder in kept)])
        except StorageUnavailable as error:
            log.warning("objects of a job are left", job=output.parent.name, error=str(error))
        self._published.pop(output, None)

    def is_published(self, folder: Path) -> bool:
        """Whether the bucket has a model's folder, and every byte of it is as it was put."""
        key = self._key(folder)
        there = {} if key is None else {one.key: one.bytes for one in self._bucket.list(key)}
        if f"{key}/{MANIFEST}" not in there or f"{key}/{DIGESTS}" not in there:
            return False
        digests = self._digests(f"{key}/{DIGESTS}", there[f"{key}/{DIGESTS}"])
        return all(self._digest(f"{key}/{name}", there.get(f"{key}/{name}", 0)) == one for name, one in digests.items())

    def _digests(self, key: str, size: int) -> dict[str, str]:
        found: dict[str, str] = json.loads(b"".join(self._bucket.read(key, 0, size)))
        return found

    def _digest(self, key: str, size: int) -> str:
        digest = sha256()
        for chunk in self._bucket.read_whole(key, size):
            digest.update(chunk)
        return digest.hexdigest()

    def _key(self, folder: Path) -> str | None:
        if folder == self._root or not folder.is_relative_to(self._root):
            return None
        return folder.relative_to(self._root).as_posix()

    def _put(self, folder: Path, last: str) -> bool:
        """Puts a complete folder; False where it is not, or the trainer has removed it meanwhile."""
        key = self._key(folder)
        if key is None or not (folder / last).is_file():
            return False
        there = {one.key: one.bytes for one in self._bucket.list(key)}
        try:
            digests = {name: sha256_of(folder / name) for name in _names(folder)}
            for name in digests:
                size = (folder / name).stat().st_size
                if name != last and (size < SMALL or there.get(f"{key}/{name}") != size):
                    self._bucket.put(f"{key}/{name}", folder / name)
            self._bucket.put_bytes(f"{key}/{DIGESTS}", json.dumps(digests).encode())
            self._bucket.put(f"{key}/{last}", folder / last)
        except FileNotFoundError:
            return False
        return True

    def _get(self, key: str, folder: Path, last: str) -> None:
        there = {one.key.removeprefix(f"{key}/"): one.bytes for one in self._bucket.list(key)}
        if last not in there or DIGESTS not in there:
            return
        digests = self._digests(f"{key}/{DIGESTS}", there[DIGESTS])
        if last == MANIFEST:
            self._make_room(sum(there.values()))
        partial = folder.with_name(f".{folder.name}.{os.getpid()}-{threading.get_ident()}{FETCHING}")
        make_directories(partial)
        try:
            for name, digest in digests.items():
                self._get_file(f"{key}/{name}", there.get(name, 0), _inside(partial, name), digest)
            if last == MANIFEST:
                (partial / DIGESTS).write_text(json.dumps(digests))
            if not (folder / last).is_file():
                shutil.rmtree(folder, ignore_errors=True)  # what a crash left
                rename_durably(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _get_file(self, key: str, size: int, path: Path, digest: str) -> None:
        make_directories(path.parent)
        path.unlink(missing_ok=True)
        _, found = stream_to(path, self._bucket.read_whole(key, size))
        if found != digest:
            raise ServerFault(
                f"{key} in the object storage is not what was stored: its SHA-256 is {found}, not {digest}. Restore"
                " the object from a backup or an older version, or train the model again.",
                code="storage_damaged",
            )

    def _make_room(self, coming: int) -> None:
        """Removes fetched folders that were not used for longest, until `coming` more bytes are within the limit."""
        with self._scanning:
            output = self._root / "jobs"
            marks = [*output.glob(f"*/output/*/{DIGESTS}"), *output.glob(f"*/output/checkpoints/*/{DIGESTS}")]
            folders = sorted((mark.parent for mark in marks), key=_used)
            excess = coming + sum(map(_size, folders)) - self._limit
            for folder in folders:
                if excess > 0 and time.time() - _used(folder) > RECENT_SECONDS:
                    excess -= self._evict(folder)

    def _evict(self, folder: Path) -> int:
        """Removes a folder that the bucket has; the bytes that this freed."""
        if self._bucket.find(f"{self._key(folder)}/{MANIFEST}") is None:
            return 0
        size, gone = _size(folder), folder.with_name(f".{folder.name}.{os.getpid()}{FETCHING}")
        folder.rename(gone)  # whole or not at all, for others
        shutil.rmtree(gone, ignore_errors=True)
        return size

    def _delete(self, keys: list[str]) -> None:
        """What makes a folder complete goes first."""
        self._bucket.delete(sorted(keys, key=lambda key: not key.endswith((f"/{MANIFEST}", f"/{STATE}"))))

    @contextmanager
    def _turn(self, key: str) -> Iterator[None]:
        with self._lock:
            turn = self._turns.setdefault(key, _Turn())
        with turn.lock:
            yield


class _Turn:
    """One fetch of a folder at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


def _names(folder: Path) -> list[str]:
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    names = (path.as_posix() for path in paths if not any(part.startswith(".") for part in path.parts))
    return sorted(name for name in names if name != DIGESTS)


def _is_here(folder: Path) -> bool:
    """Whether a model's folder is complete on this machine; it now counts as used."""
    try:
        os.utime(folder / MANIFEST, ns=(time.time_ns(), (folder / MANIFEST).stat().st_mtime_ns))
    except FileNotFoundError:
        return False
    return True


def _used(folder: Path) -> float:
    try:
        return (folder / MANIFEST).stat().st_atime
    except FileNotFoundError:
        return time.time()  # another process has just removed it


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ServerFault(f"{DIGESTS} in the object storage names {name!r}, which is not inside its folder.")
    return path


def _newest(names: Iterable[str]) -> str | None:
    return max((name for name in names if name.startswith("step-")), default=None)
