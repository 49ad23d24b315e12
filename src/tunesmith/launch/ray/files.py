"""The files of a job on a node.

Those of the data directory, or copies that come and go through object storage.
"""

import fcntl
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar, cast

import structlog

from tunesmith.data_paths import Paths
from tunesmith.errors import InvalidRequest, TunesmithError
from tunesmith.jsonvalue import JsonObject
from tunesmith.launch.ray.order import Bucket, Input, NodeOrder
from tunesmith.launch.ray.transfer import fetch_file, fetch_folder, is_base
from tunesmith.store.queue.job_files import JobFiles
from tunesmith.store.storage.bucket import StorageUnavailable, open_bucket
from tunesmith.store.storage.model_folders import BucketFolders
from tunesmith.system.atomic_write import make_directories, write_atomically

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")
PUBLISH_SECONDS = 0.5
RETRY_SECONDS = 2.0
MODELS = ("checkpoint", "done")  # events that name a folder


@dataclass(slots=True)
class NodeFiles:
    """The trainer's files, in a data directory that the worker sees too."""

    spec: Path
    lock: Path
    events: Path
    log: Path

    def handed_on(self, lines: bytes) -> bytes:
        """The trainer's lines for the worker, once it can have what they name."""
        return lines

    def keep_progress(self, *, last: bool) -> None:
        """Puts new progress where another node finds it."""

    def close(self) -> None:
        """Removes what nobody needs any more."""
        for path in (self.spec, self.events, self.log):
            path.unlink(missing_ok=True)


@dataclass(slots=True)
class FetchedFiles(NodeFiles):
    """Copies below the node's own directory."""

    folders: BucketFolders
    files: JobFiles
    roots: tuple[Path, Path]  # the node's directory, and the worker's data directory
    held: IO[bytes]  # a lock: the directory is in use
    leads: bool  # rank 0 is here, whose progress it is
    _published: float = 0.0

    def handed_on(self, lines: bytes) -> bytes:
        """The lines with the worker's own paths; the models are in the bucket then."""
        return b"".join(self._of_worker(line) for line in lines.splitlines(keepends=True))

    def keep_progress(self, *, last: bool) -> None:
        """Puts the newest progress into the bucket, at most twice a second."""
        if self.leads and (last or time.monotonic() - self._published > PUBLISH_SECONDS):
            self.folders.publish_progress(self.files.output, last=last)
            self._published = time.monotonic()

    def close(self) -> None:
        """Removes the copies: the bucket has all that the next attempt needs."""
        shutil.rmtree(self.files.directory, ignore_errors=True)
        self.held.close()

    def _of_worker(self, line: bytes) -> bytes:
        event = _object(line)
        if event is None or event.get("type") not in MODELS:
            return line
        folder = Path(str(event["path"]))
        patiently(lambda: self.folders.publish(folder))
        here, there = self.roots
        return json.dumps({**event, "path": str(there / folder.relative_to(here))}).encode() + b"\n"


def files_on_node(order: NodeOrder) -> NodeFiles:
    """Has what the trainer reads on this node; TunesmithError where that cannot be."""
    return _shared(order) if order.bucket is None else _fetched(order, order.bucket)


def patiently(call: Callable[[], Answer]) -> Answer:
    """Calls until the object storage answers; what was returned then."""
    while True:
        try:
            return call()
        except StorageUnavailable as error:
            log.warning("the object storage does not answer; trying again", error=str(error))
            time.sleep(RETRY_SECONDS)


def _shared(order: NodeOrder) -> NodeFiles:
    try:
        there = order.spec_path.read_text("utf-8")
    except OSError:
        there = None
    if there != order.spec:
        raise InvalidRequest(
            "it does not see the job's files. Give all nodes the worker's data directory at its path (a shared file"
            " system), or set storage to a bucket and ray_node_dir to a directory of the nodes.",
            detail=f"looked for {order.spec_path}",
        )
    mark = f"node-{order.number}" if order.number else "node"
    spec = order.spec_path.with_suffix(f".{mark}.json")
    write_atomically(spec, _changed(order, {}).encode())
    stem = order.spec_path.name.removesuffix(".spec.json")
    events, words = spec.with_name(f"{stem}.{mark}-events.jsonl"), spec.with_name(f"{stem}.{mark}.log")
    _remove_of_lost(spec.parent, stem)
    return NodeFiles(spec, order.lock, events, words)


def _remove_of_lost(folder: Path, stem: str) -> None:
    """Removes what nodes of earlier attempts left that were lost."""
    for left in folder.glob("*.node*"):
        if not left.name.startswith(f"{stem}."):
            left.unlink(missing_ok=True)


def _fetched(order: NodeOrder, given: Bucket) -> NodeFiles:
    root, bucket = given.node_dir, open_bucket(given.url, given.endpoint)
    spec: JsonObject = json.loads(order.spec)
    leads = order.number == 0
    files = JobFiles(root / ("jobs" if leads else f"jobs-{order.number}"), str(spec["job_id"]))
    make_directories(files.directory)
    held = _hold(files)
    _remove_abandoned(files)
    folders = BucketFolders(root, bucket, given.gib)
    make_directories(files.output)
    paths = {"output_dir": str(files.output), **patiently(lambda: _inputs(order, files, folders))}
    attempt = int(cast(int, spec["attempt"]))
    write_atomically(files.spec(attempt), _changed(order, paths).encode())
    return FetchedFiles(
        spec=files.spec(attempt),
        lock=files.lock,
        events=files.events(attempt),
        log=files.log(attempt),
        folders=folders,
        files=files,
        roots=(root, order.data_dir),
        held=held,
        leads=leads,
    )


def _inputs(order: NodeOrder, files: JobFiles, folders: BucketFolders) -> dict[str, str]:
    """Has what the trainer reads on this node; where, by the names in the spec."""
    root = files.root.parent
    paths = {name: str(_input(one, root, files, folders)) for name, one in order.inputs.items()}
    if order.number == 0:  # the others have it from rank 0
        folders.fetch_progress(files.output)
    return paths


def _input(one: Input, root: Path, files: JobFiles, folders: BucketFolders) -> Path:
    if one.kind == "model":
        folders.fetch(root / one.key)
        return root / one.key
    if one.kind == "file":
        target = files.directory / one.key.rpartition("/")[2]
        fetch_file(folders.bucket, one, target)
        return target
    seen = Path(one.path)
    if is_base(seen, one, Paths(root).seals):
        return seen  # the image has it, or a disk that all nodes see
    return fetch_folder(folders.bucket, one, root)


def _changed(order: NodeOrder, paths: dict[str, str]) -> str:
    """The spec as this node's trainer reads it."""
    spec: JsonObject = {**json.loads(order.spec), **paths}
    if spec.get("threads") == 0:
        spec["threads"] = order.threads
    return json.dumps(spec)


def _hold(files: JobFiles) -> IO[bytes]:
    file = files.directory.with_suffix(".held").open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise TunesmithError("an earlier attempt of this job still runs here.") from None
    return file


def _remove_abandoned(files: JobFiles) -> None:
    """Removes what attempts of other jobs left here that were killed with their node."""
    for held in files.root.glob("*.held"):
        if held.stem == files.job_id:
            continue
        with held.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(held.with_suffix(""), ignore_errors=True)
            held.unlink(missing_ok=True)


def _object(line: bytes) -> JsonObject | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
