"""Exports in object storage: any server offers what one of them has written.

`exports/MODEL/KIND/state.json` says where an export stands, `exports/MODEL/KIND/TOKEN/…` are its files; MODEL is a
hash, TOKEN is that of the one writing. While it goes on its server puts the state again every few seconds: where that
stays out, the server is gone. `TOKEN.cancelled` ends the writing, and so does another's state. A server begins one
while no other does (`service.py`): looking and putting are two requests.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import IO, cast

import structlog

from tunesmith.api.exports.shelf import ExportFile, Transfer, sweep_folder
from tunesmith.api.exports.state import State, state_from
from tunesmith.errors import ServiceUnavailable
from tunesmith.export.kinds import Kind
from tunesmith.store.storage.bucket import Bucket, StoredObject

log = structlog.get_logger(__name__)

PREFIX, STATE = "exports", "state.json"
STATE_DEPTH = 3  # folders above it
SILENT_SECONDS = 60.0  # of a server that writes: then it is taken to be gone
WRITTEN_ELSEWHERE = "Another server is writing this export. Wait until it has ended, or cancel it."


class BucketShelf:
    """The exports of all servers on one bucket.

    `folder`: where this one writes before it puts. `clock`: Unix seconds, the same for all servers, by which a silent
    one is known; it may raise ServiceUnavailable.
    """

    is_shared = True

    def __init__(self, bucket: Bucket, folder: Path, clock: Callable[[], float] | None = None) -> None:
        self._bucket = bucket
        self._folder = folder
        self._clock = clock

    def states(self, model: str) -> Mapping[Kind, State]:
        """Those that were not cancelled, and whose writer is not silent.

        None while the storage does not answer.
        """
        try:
            groups = _groups(self._bucket.list(_model_key(model)))
            known = [self._shown(objects) for objects in groups]
        except ServiceUnavailable as error:
            log.warning("exports in the object storage cannot be shown", error=str(error))
            return {}
        return {state.kind: state for state in known if state is not None}

    def begin(self, state: State) -> None:
        """Puts the state in the place of an earlier one.

        Raises ServiceUnavailable where another server writes it, and StorageUnavailable.
        """
        earlier = [*self._bucket.list(_key(state))]
        found = self._shown(earlier)
        if found is not None and found.phase == "running":
            raise ServiceUnavailable(WRITTEN_ELSEWHERE)
        self._put(state)
        self._bucket.delete([one.key for one in earlier if not _is_state(one)])

    def announce(self, state: State) -> bool:
        """While the storage does not answer the writing goes on."""
        try:
            return self._put_current(state)
        except ServiceUnavailable as error:
            log.warning("an export's progress cannot be told", error=str(error))
        return True

    def put_files(self, state: State, folder: Path, transfer: Transfer) -> None:
        """Raises StorageUnavailable, and OSError where the transfer is stopped meanwhile."""
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            key = f"{_key(state)}/{state.token}/{path.relative_to(folder).as_posix()}"
            with path.open("rb") as file:
                self._bucket.put_file(key, cast("IO[bytes]", _Sent(file, transfer)), path.stat().st_size)

    def settle(self, state: State) -> bool:
        """Of a writing that failed no file stays. Raises StorageUnavailable."""
        if state.phase != "done":
            self._delete(self._bucket.list(f"{_key(state)}/{state.token}"))
        return self._put_current(state)

    def discard(self, state: State) -> None:
        """Leaves another writer's state. Raises StorageUnavailable."""
        is_ours = self._is_ours(state)
        own = (f"{_key(state)}/{state.token}/", _cancelled(state))
        found = [
            one for one in self._bucket.list(_key(state)) if one.key.startswith(own) or (is_ours and _is_state(one))
        ]
        self._delete(found)

    def files(self, state: State) -> list[ExportFile]:
        """Raises StorageUnavailable."""
        place = f"{_key(state)}/{state.token}"
        found = sorted(self._bucket.list(place), key=lambda one: one.key)
        return [self._file(one.key.removeprefix(f"{place}/"), one) for one in found]

    def remove(self, model: str, kind: Kind) -> None:
        """A server that writes it finds a mark, and ends. Raises StorageUnavailable."""
        found = [*self._bucket.list(f"{_model_key(model)}/{kind}")]
        state = self._shown(found)
        if state is not None and state.phase == "running":
            self._bucket.put_bytes(_cancelled(state), b"\n")
        self._delete(found)

    def sweep(self, is_kept: Callable[[State], bool]) -> int:
        """What silent servers left goes too, and what this directory has of before."""
        gone = sweep_folder(self._folder, is_kept)
        try:
            for objects in _groups(self._bucket.list(PREFIX)):
                state = self._shown(objects, cancelled=True)
                if state is None or not is_kept(state):
                    self._delete(objects)
                    gone += 1
        except ServiceUnavailable as error:
            log.warning("exports in the object storage are swept another time", error=str(error))
        return gone

    def _file(self, name: str, one: StoredObject) -> ExportFile:
        def read(start: int, end: int) -> Iterator[bytes]:
            whole = (start, end) == (0, one.bytes)
            return self._bucket.read_whole(one.key, end) if whole else self._bucket.read(one.key, start, end)

        return ExportFile(name, one.bytes, one.modified.timestamp(), read)

    def _shown(self, objects: Iterable[StoredObject], *, cancelled: bool = False) -> State | None:
        """The state among the objects of one export, unless its writer is silent, or was told to end."""
        keys = {one.key: one for one in objects}
        found = next((one for one in keys.values() if _is_state(one)), None)
        state = None if found is None else self._read(found.key)
        if state is None or (state.phase == "running" and self._now() - state.ended_at > SILENT_SECONDS):
            return None
        return state if cancelled or _cancelled(state) not in keys else None

    def _put_current(self, state: State) -> bool:
        """Puts the state, unless the writing was cancelled or another one has begun."""
        if not self._is_ours(state) or self._bucket.find(_cancelled(state)) is not None:
            return False
        self._put(state)
        return True

    def _is_ours(self, state: State) -> bool:
        found = self._read(f"{_key(state)}/{STATE}")
        return found is not None and found.token == state.token

    def _read(self, key: str) -> State | None:
        content = self._bucket.content(key)
        return None if content is None else state_from(content)

    def _put(self, state: State) -> None:
        at = self._now() if state.phase == "running" else time.time()  # the end is told without the database
        content = json.dumps(asdict(replace(state, ended_at=at))).encode()
        self._bucket.put_bytes(f"{_key(state)}/{STATE}", content)

    def _now(self) -> float:
        return time.time() if self._clock is None else self._clock()

    def _delete(self, objects: Iterable[StoredObject]) -> None:
        self._bucket.delete([one.key for one in sorted(objects, key=lambda one: not _is_state(one))])


class _Sent:
    """A file that is read to be sent; each read counts, and fails once the writing was stopped."""

    def __init__(self, file: IO[bytes], transfer: Transfer) -> None:
        self._file, self._transfer = file, transfer

    def read(self, size: int = -1) -> bytes:
        """As of a file. Raises InterruptedError."""
        if self._transfer.stopped:
            raise InterruptedError("the export was cancelled")
        data = self._file.read(size)
        self._transfer.sent += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of a file; obstore takes none without it."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """As of a file."""
        return self._file.tell()


def _is_state(one: StoredObject) -> bool:
    return one.key.endswith(f"/{STATE}") and one.key.count("/") == STATE_DEPTH


def _cancelled(state: State) -> str:
    return f"{_key(state)}/{state.token}.cancelled"


def _model_key(model: str) -> str:
    return f"{PREFIX}/{sha256(model.encode()).hexdigest()[:32]}"


def _key(state: State) -> str:
    return f"{_model_key(state.model)}/{state.kind}"


def _groups(objects: Iterable[StoredObject]) -> list[list[StoredObject]]:
    """The objects of each export."""
    found: dict[str, list[StoredObject]] = {}
    for one in objects:
        found.setdefault("/".join(one.key.split("/")[:STATE_DEPTH]), []).append(one)
    return [*found.values()]
