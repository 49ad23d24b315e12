"""Object storage: S3, Google Cloud Storage or Azure, by URL.

Every key is below the URL's prefix; nothing else in the bucket is read, listed or removed. An object appears whole or
not at all. No request stays open for long: large objects go and come in parts, each tried again for a bounded time.
"""

import errno
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tunesmith.errors import InvalidRequest, ServerFault, ServiceUnavailable

if TYPE_CHECKING:
    from obstore.store import BackoffConfig, ClientConfig, ObjectStore, RetryConfig, S3Config

PART_BYTES = 8 * 1024**2
MOST_PARTS = 9000  # S3 takes 10,000 of an object
PARTS_AT_ONCE = 4
READ_BYTES = 3 * 1024**2  # of a stream: a multiple of 3, so that only its last chunk is padded in base64
LONGEST_REQUEST = timedelta(minutes=5)  # of one part, on a slow line
SILENCE = timedelta(seconds=30)
RETRIES = 5
RETRY_TIME = timedelta(seconds=20)
GIB = 1024**3
RECENT_SECONDS = 300.0  # a copy of an object that was asked for so lately may be about to be read
NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist")
NO_SUCH_RANGE = "416 Range Not Satisfiable"
SCHEMES = ("s3", "gs", "az")
CURES = {
    "FileNotFoundError": "there is no such bucket: create it, or correct the setting storage",
    "PermissionDeniedError": "its credentials may not do this: allow reading, writing, listing and deleting there",
    "UnauthenticatedError": "its credentials are not accepted: correct them (docs/storage.md says where they stand)",
}
NO_ANSWER = "it does not answer"
NO_CREDENTIALS = "there are no credentials for it: set those of its kind (docs/storage.md)"
INSTANCE = ("169.254.169.254", "metadata.google.internal")  # a cloud's machine is asked where there are no others
UNAVAILABLE = "The object storage of the server's files does not answer or refuses. Try again."
REFUSES = "The object storage of the server's files refuses; what is set for it has to be corrected."
BUCKETS = "s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX"
SAID_IN_XML = re.compile(r"<(?:Code|Message)>([^<]*)<")


class StorageUnavailable(ServiceUnavailable):
    """The object storage does not answer, or refuses."""


class StorageDamaged(ServerFault):
    """What is in the object storage is not what was put there."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="storage_damaged")


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object that is there."""

    key: str
    bytes: int
    modified: datetime


class Bucket:
    """The objects below one prefix of a bucket. Threads may share it.

    Every method raises StorageUnavailable, whose detail says why.
    """

    def __init__(self, url: str, store: "ObjectStore") -> None:
        self.url = url
        self._store = store

    def put(self, key: str, path: Path) -> None:
        """Store a local file under `key`, in parts if it is large.

        Returns once all of it is there.
        """
        import obstore

        size = path.stat().st_size
        part = _part_bytes(size)
        with self._telling():
            obstore.put(
                self._store, key, path, use_multipart=size > part, chunk_size=part, max_concurrency=PARTS_AT_ONCE
            )

    def put_file(self, key: str, file: IO[bytes], size: int) -> None:
        """Store what is to be read of an open file, `size` bytes, as `put` does."""
        import obstore

        part = _part_bytes(size)
        with self._telling():
            obstore.put(
                self._store,
                key,
                file,
                use_multipart=size > part,
                chunk_size=part,
                max_concurrency=PARTS_AT_ONCE,
            )

    def put_bytes(self, key: str, content: bytes) -> None:
        """Store a few bytes under `key`."""
        import obstore

        with self._telling():
            obstore.put(self._store, key, content, use_multipart=False)

    def find(self, key: str) -> StoredObject | None:
        """Return what is there under `key`; None if nothing is."""
        import obstore

        with self._telling():
            try:
                meta = obstore.head(self._store, key)
            except FileNotFoundError:  # a missing bucket looks the same here; `require` tells them apart
                return None
        return StoredObject(key, meta["size"], meta["last_modified"])

    def content(self, key: str) -> bytes | None:
        """Return all of a small object, in one request; None if nothing is there.

        So it is whole, though another process puts it again at this moment with another size.
        """
        import obstore

        with self._telling():
            try:
                return bytes(obstore.get(self._store, key).bytes())
            except FileNotFoundError:
                return None

    def read(self, key: str, start: int, end: int) -> Iterator[bytes]:
        """Yield the bytes of an object from `start` to before `end`.

        Raises FileNotFoundError, and StorageDamaged where it is shorter.
        """
        for place in range(start, end, READ_BYTES):
            yield self._range(key, place, min(end, place + READ_BYTES))

    def read_whole(self, key: str, size: int) -> Iterator[bytes]:
        """Yield all bytes of an object of `size` bytes, several parts at once.

        Raises FileNotFoundError, and StorageDamaged where it lacks whole parts.
        """
        import obstore

        if size > PART_BYTES and (found := self.find(key)) is not None and found.bytes < size:
            raise _shorter(key)  # obstore panics at parts that begin behind its end
        step = PART_BYTES * PARTS_AT_ONCE
        for place in range(0, size, step):
            starts = range(place, min(size, place + step), PART_BYTES)
            ends = [min(size, start + PART_BYTES) for start in starts]
            with self._telling(key):
                parts = obstore.get_ranges(self._store, key, starts=list(starts), ends=ends, coalesce=0)
            yield from map(bytes, parts)

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; no error for those that are gone already."""
        import obstore

        with self._telling():
            for key in keys:  # one by one: not every server knows the request that removes many
                with suppress(FileNotFoundError):
                    obstore.delete(self._store, key)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield the objects whose keys begin with the folder `prefix`."""
        import obstore

        pages = iter(obstore.list(self._store, prefix))
        while True:
            with self._telling():
                page = next(pages, None)
            if page is None:
                return
            yield from (StoredObject(one["path"], one["size"], one["last_modified"]) for one in page)

    def check(self) -> None:
        """Write, read, list and remove an object, as all else here does."""
        key, content = f"probes/{secrets.token_hex(8)}", b"Tunesmith looks whether it can write here.\n"
        self.put_bytes(key, content)
        found = b"".join(self.read(key, 0, len(content)))
        listed = [one.key for one in self.list("probes/")]
        self.delete([key])
        if found != content or key not in listed:
            raise StorageUnavailable(UNAVAILABLE, detail=f"{self.url} does not give back what was written there")

    def _range(self, key: str, start: int, end: int) -> bytes:
        import obstore

        with self._telling(key):
            return bytes(obstore.get_range(self._store, key, start=start, end=end))

    @contextmanager
    def _telling(self, key: str | None = None) -> Iterator[None]:
        """Turns what obstore raises into our own; of a named object, FileNotFoundError."""
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, FileNotFoundError, PermissionError) as error:
            if key is not None and isinstance(error, FileNotFoundError) and not _tells_no_bucket(error):
                raise FileNotFoundError(errno.ENOENT, "The object is gone", key) from error
            if key is not None and NO_SUCH_RANGE in str(error):
                raise _shorter(key) from error
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> StorageUnavailable:
        cure = CURES.get("FileNotFoundError" if _tells_no_bucket(error) else type(error).__name__, NO_ANSWER)
        if any(host in str(error) for host in INSTANCE):
            cure = NO_CREDENTIALS
        return StorageUnavailable(
            UNAVAILABLE if cure == NO_ANSWER else REFUSES,
            code="storage_unavailable",
            detail=f"{self.url}: {cure} ({_first_words(error)})",
        )


def open_bucket(url: str, endpoint: str | None = None) -> Bucket:
    """The bucket of a URL such as s3://bucket/prefix; nothing is asked of it yet.

    Credentials are those of the environment. Raises InvalidRequest for a URL that names none.
    """
    if not is_bucket_url(url):
        raise InvalidRequest(
            f"Setting storage: {url!r} is not the URL of a bucket, such as {BUCKETS}. Leave it unset to keep files in"
            " the data directory."
        )
    if endpoint is not None and url.startswith("gs:"):
        raise InvalidRequest("Setting storage_endpoint: it is for s3:// and az:// alone.")
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ModuleNotFoundError as error:
        text = "Object storage needs obstore: pip install obstore, or unset the setting storage."
        raise InvalidRequest(text) from error
    config: S3Config = {} if endpoint is None else {"endpoint": endpoint}
    try:
        made = from_url(url, config=config, client_options=_client(endpoint), retry_config=_retries())
    except (BaseError, ValueError) as error:
        raise InvalidRequest(f"Setting storage: {url} cannot be used ({_first_words(error)}).") from error
    return Bucket(url, made)


def is_bucket_url(url: str) -> bool:
    """Whether it names a bucket of a kind that is known here."""
    scheme, _, rest = url.partition("://")
    return scheme in SCHEMES and bool(rest.strip("/"))


def _shorter(key: str) -> StorageDamaged:
    return StorageDamaged(
        f"{key} in the object storage is shorter than what was stored. Restore the object from a backup or an older"
        " version."
    )


def _part_bytes(size: int) -> int:
    return max(PART_BYTES, -(-size // MOST_PARTS))


def _client(endpoint: str | None) -> "ClientConfig":
    asked = endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    return {
        "connect_timeout": timedelta(seconds=5),
        "read_timeout": SILENCE,
        "timeout": LONGEST_REQUEST,
        "allow_http": asked.startswith("http://"),  # who names an endpoint without TLS means it
    }


def _retries() -> "RetryConfig":
    first, longest = timedelta(milliseconds=100), timedelta(seconds=3)
    backoff: BackoffConfig = {"init_backoff": first, "max_backoff": longest, "base": 2}
    return {"max_retries": RETRIES, "retry_timeout": RETRY_TIME, "backoff": backoff}


def _tells_no_bucket(error: Exception) -> bool:
    return any(words in str(error) for words in NO_BUCKET)


def _first_words(error: Exception) -> str:
    """What a log needs of an error that quotes itself over many lines, or an answer in XML."""
    words = " ".join(str(error).partition("Debug source")[0].split())
    if said := SAID_IN_XML.findall(words):
        words = words[: words.index("<")] + ": ".join(said)
    return words[:300]
