"""Folders of tuned models, checkpoints and progress in object storage.

Their keys are their paths in the data directory. A folder is put file by file, then `digests.json` with the SHA-256
of each, and what makes it complete last: a model's `manifest.json`, a progress's `state.json`. So a folder exists
once that file does. It does not change afterwards, but for the cards that are written beside a model at its job's
end, and where an interrupted job comes to the same step again with other bits, as GPUs may give.

Not covered: a worker that has lost its job without knowing it, and puts other bits of the same folder while the next
one does. Such a folder is refused, by its digests.
"""

import errno
import json
import shutil
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from weakref import WeakValueDictionary

import structlog

from tunesmith.errors import ServerFault
from tunesmith.store.objects.blobs import stream_to
from tunesmith.store.storage.bucket import GIB, Bucket, StorageDamaged, StorageUnavailable
from tunesmith.store.storage.folder_cache import DIGESTS, MANIFEST, FolderCache, is_here, name_folder, partial_of
from tunesmith.system.atomic_write import make_directories, sha256_of, write_atomically

log = structlog.get_logger(__name__)

STATE, JOURNAL = "state.json", "journal.jsonl"
JOBS, PROGRESS = "jobs", "progress"
LIST_SECONDS = 86_400.0  # between two listings of all jobs' objects
PAUSE_SECONDS = 30.0
SMALL = 1024**2  # bytes of a file that is read in one request
AGAIN_SECONDS, TRIES = 1.0, 3  # of a fetch that a machine comes between which puts the folder again


class ModelFolders:
    """Folders that are kept in the data directory alone: there is nothing to do."""

    def publish(self, folder: Path) -> None:
        """Make a model's complete folder known to all machines.

        One that is gone or incomplete is passed over.
        """

    def fetch(self, folder: Path) -> None:
        """Make sure that a model's folder is on this machine, if there is one anywhere."""

    def publish_progress(self, output: Path, *, last: bool = False) -> None:
        """Make the newest progress below a job's output known to all machines.

        `last`: nothing is trained after it here.
        """

    def fetch_progress(self, output: Path) -> None:
        """Make sure that a job's newest progress is on this machine."""

    def keep_only(self, output: Path, needed: Collection[Path]) -> None:
        """Remove what no needed folder has of a job's output, but not on this disk."""

    def leftovers(self) -> Mapping[str, Sequence[str]]:
        """Job id -> what is kept of it elsewhere, from time to time; here nothing."""
        return {}

    def remove_unneeded(self, keys: Sequence[str], needed: Collection[Path]) -> int:
        """Remove those of `leftovers` that no needed folder has; return of how many."""
        return 0


class BucketFolders(ModelFolders):
    """Folders below `root`, the data directory, that are in a bucket too.

    Others are left where they are. Models that were fetched, which have `digests.json`, are a cache of `gib`; one
    that was trained here stays. Each method raises StorageUnavailable, but for `publish_progress` and `keep_only`:
    their work may be done later.
    """

    def __init__(self, root: Path, bucket: Bucket, gib: float) -> None:
        self._root = root
        self._bucket = bucket
        self._cache = FolderCache(root, bucket, int(gib * GIB))
        self._published: dict[Path, str] = {}  # a job's output -> its newest progress in the bucket
        self._sent: dict[str, str] = {}  # key -> digest, of files that this process has put into incomplete folders
        self._again_at = 0.0  # by the monotonic clock; the storage did not answer
        self._listed: float | None = None  # when all jobs' objects were, by the monotonic clock
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

        Raises StorageDamaged for bytes that are not those that were put.
        """
        key = self._key(folder)
        if key is None or is_here(folder):
            return
        with self._turn(key):
            if not is_here(folder):
                self._get(key, folder, MANIFEST)

    def publish_progress(self, output: Path, *, last: bool = False) -> None:
        """Put the newest progress and the journal, and remove older progress.

        While the storage does not answer, another machine would go on from an older one.
        """
        newest = _newest(path.name for path in (output / PROGRESS).glob("step-*"))
        key = self._key(output)
        if key is None or newest is None or self._published.get(output) == newest:
            return
        if time.monotonic() < self._again_at and not last:
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
        journal = self._bucket.content(f"{key}/{JOURNAL}")
        if journal is not None:
            write_atomically(output / JOURNAL, journal)
        self._get(f"{place}/{newest}", output / PROGRESS / newest, STATE)

    def keep_only(self, output: Path, needed: Collection[Path]) -> None:
        """Remove the objects of a job's output that no needed folder has."""
        key = self._key(output)
        if key is None:
            return
        try:
            self.remove_unneeded([one.key for one in self._bucket.list(key)], needed)
        except StorageUnavailable as error:
            log.warning("objects of a job are left", job=output.parent.name, error=str(error))
        self._published.pop(output, None)

    def leftovers(self) -> Mapping[str, Sequence[str]]:
        """Job id -> keys below its folder; once a day, else none."""
        if self._listed is not None and time.monotonic() - self._listed < LIST_SECONDS:
            return {}
        found: dict[str, list[str]] = {}
        try:
            for one in self._bucket.list(JOBS):
                found.setdefault(one.key.split("/")[1], []).append(one.key)
        except StorageUnavailable as error:
            log.warning("the bucket's models are looked through another time", error=str(error))
            return {}
        self._listed = time.monotonic()
        return found

    def remove_unneeded(self, keys: Sequence[str], needed: Collection[Path]) -> int:
        """Remove the objects that are in no needed folder; return of how many."""
        kept = tuple(f"{one}/" for folder in needed if (one := self._key(folder)) is not None)
        gone = [key for key in keys if not key.startswith(kept)]
        self._delete(gone)
        return len(gone)

    def is_published(self, folder: Path) -> bool:
        """Whether the bucket has a model's folder, and every byte of it is as it was put."""
        key = self._key(folder)
        digests = {} if key is None else self._digests(key)
        if key is None or not digests:
            return False
        there = self._sizes(key)
        return MANIFEST in there and all(
            self._digest(f"{key}/{name}", there.get(name, 0)) == digest for name, digest in digests.items()
        )

    def _digests(self, key: str) -> dict[str, str]:
        """The digests of a folder's files; none where they are not there.

        Raises StorageDamaged.
        """
        content = self._bucket.content(f"{key}/{DIGESTS}")
        try:
            found: dict[str, str] = json.loads(content or b"{}")
        except ValueError as error:
            raise _damaged(f"{key}/{DIGESTS}", "it is no JSON") from error
        return found

    def _sizes(self, key: str) -> dict[str, int]:
        return {one.key.removeprefix(f"{key}/"): one.bytes for one in self._bucket.list(key)}

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
        try:
            digests = {name: sha256_of(folder / name) for name in _names(folder)}
            self._put_changed(folder, key, last, digests)
        except FileNotFoundError:
            return False
        return True

    def _put_changed(self, folder: Path, key: str, last: str, digests: dict[str, str]) -> None:
        """Puts the files that are not there with these digests, by what the bucket says; a size says too little."""
        there, known = self._sizes(key), {}
        with suppress(StorageDamaged):
            known = self._digests(key)
        sent = {} if last in there else self._sent  # a complete folder is another one's by now
        changed = [
            name
            for name, digest in digests.items()
            if name != last and (name not in there or digest not in (known.get(name), sent.get(f"{key}/{name}")))
        ]
        if any(name in known and there.get(name, 0) > SMALL for name in changed):
            self._bucket.delete([f"{key}/{last}", f"{key}/{DIGESTS}"])  # no folder until all of it is there again
        for name in changed:
            self._bucket.put(f"{key}/{name}", folder / name)
            self._sent[f"{key}/{name}"] = digests[name]
        self._bucket.put_bytes(f"{key}/{DIGESTS}", json.dumps(digests).encode())
        self._bucket.put(f"{key}/{last}", folder / last)
        for name in digests:
            self._sent.pop(f"{key}/{name}", None)

    def _get(self, key: str, folder: Path, last: str) -> None:
        """Fetches a folder, if it is there, again where it was put again meanwhile."""
        digests = self._digests(key)
        for tries in range(TRIES, 0, -1):
            try:
                self._get_whole(key, folder, last, digests)
                return
            except StorageDamaged:
                time.sleep(AGAIN_SECONDS)
                changed = self._digests(key)
                if tries == 1 or changed == digests:
                    raise
                digests = changed

    def _get_whole(self, key: str, folder: Path, last: str, digests: dict[str, str]) -> None:
        there = self._sizes(key)
        if last not in there or not digests:
            return
        if last == MANIFEST:
            self._cache.make_room(sum(there.values()))
        partial = partial_of(folder)
        make_directories(partial)
        try:
            for name, digest in digests.items():
                self._get_file(f"{key}/{name}", there.get(name, 0), _inside(partial, name), digest)
            if last == MANIFEST:
                (partial / DIGESTS).write_text(json.dumps(digests))
            name_folder(partial, folder, last)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _get_file(self, key: str, size: int, path: Path, digest: str) -> None:
        make_directories(path.parent)
        path.unlink(missing_ok=True)
        try:
            _, found = stream_to(path, self._chunks(key, size))
        except FileNotFoundError as error:
            if error.filename != key:
                raise
            raise _damaged(key, "it is not there") from error
        if found != digest:
            raise _damaged(key, f"its SHA-256 is {found}, not {digest}")

    def _chunks(self, key: str, size: int) -> Iterable[bytes]:
        """All bytes of a file; of a small one those of one moment, whatever its size was when it was listed."""
        if size > SMALL:
            return self._bucket.read_whole(key, size)
        content = self._bucket.content(key)
        if content is None:
            raise FileNotFoundError(errno.ENOENT, "The object is gone", key)
        return [content]

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


def _damaged(key: str, how: str) -> StorageDamaged:
    return StorageDamaged(
        f"{key} in the object storage is not what was stored: {how}. Restore the object from a backup or an older"
        " version, or train the model again."
    )


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ServerFault(f"{DIGESTS} in the object storage names {name!r}, which is not inside its folder.")
    return path


def _newest(names: Iterable[str]) -> str | None:
    return max((name for name in names if name.startswith("step-")), default=None)
