"""What a trainer reads, put into object storage and fetched by a node.

Rows go below their job's output, where they are removed at the job's end; a base goes to `bases/`, once, and stays.
"""

import json
import os
import shutil
import threading
from hashlib import sha256
from pathlib import Path

from tunesmith.errors import ServerFault
from tunesmith.jsonvalue import JsonObject
from tunesmith.launch.ray.order import Input
from tunesmith.store.objects.blobs import stream_to
from tunesmith.store.queue.job_files import JobFiles
from tunesmith.store.storage.bucket import Bucket
from tunesmith.store.storage.model_folders import BucketFolders
from tunesmith.system.atomic_write import make_directories, rename_durably, sha256_of

ROWS, BASES, LISTING = "rows", "bases", "files.json"


def put_inputs(spec: JsonObject, data_dir: Path, bucket: Bucket, gib: float) -> dict[str, Input]:
    """Puts what the spec names where a node can fetch it. Raises StorageUnavailable."""
    output = JobFiles(data_dir / "jobs", str(spec["job_id"])).output.relative_to(data_dir)
    found: dict[str, Input] = {}
    for name in ("training_file", "validation_file"):
        if spec.get(name) is not None:
            found[name] = _put_file(bucket, f"{output.as_posix()}/{ROWS}", Path(str(spec[name])))
    for name in ("base_dir", "init_adapter_dir"):
        if spec.get(name) is None:
            continue
        folder = Path(str(spec[name]))
        if folder.is_relative_to(data_dir):  # a model that was trained here or elsewhere
            BucketFolders(data_dir, bucket, gib).publish(folder)
            found[name] = Input("model", folder.relative_to(data_dir).as_posix(), str(folder))
        else:
            found[name] = _put_folder(bucket, folder)
    return found


def mark_of(folder: Path) -> str:
    """16 hex digits that change with the files of a base.

    With their names and sizes, and with what its JSON files say.
    """
    digest = sha256()
    for path in _files(folder):
        digest.update(f"{path.name}:{path.stat().st_size}\n".encode())
        if path.suffix == ".json":
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def fetch_file(bucket: Bucket, one: Input, target: Path) -> None:
    """Fetches a file of rows, unless it is here."""
    if target.exists() and sha256_of(target) == one.digest:
        return
    _fetch(bucket, one.key, target, (one.size, one.digest))


def fetch_folder(bucket: Bucket, one: Input, root: Path) -> Path:
    """The folder of a base below `root`, fetched where it is not here."""
    target = root / one.key
    if target.is_dir():
        return target
    partial = target.with_name(f".{target.name}.{os.getpid()}-{threading.get_ident()}")
    make_directories(partial)
    try:
        for name, (size, digest) in _listing(bucket, one.key).items():
            _fetch(bucket, f"{one.key}/{name}", partial / Path(name).name, (size, digest))
        if not target.is_dir():
            rename_durably(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _put_file(bucket: Bucket, folder: str, path: Path) -> Input:
    digest, size = sha256_of(path), path.stat().st_size
    key = f"{folder}/{digest}"
    there = bucket.find(key)
    if there is None or there.bytes != size:
        bucket.put(key, path)
    return Input("file", key, str(path), size, digest)


def _put_folder(bucket: Bucket, folder: Path) -> Input:
    mark = mark_of(folder)
    key = f"{BASES}/{mark}"
    if bucket.find(f"{key}/{LISTING}") is None:
        listing = {}
        for path in _files(folder):
            listing[path.name] = (path.stat().st_size, sha256_of(path))
            bucket.put(f"{key}/{path.name}", path)
        bucket.put_bytes(f"{key}/{LISTING}", json.dumps(listing).encode())  # last: now the base is there
    return Input("folder", key, str(folder), digest=mark)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _listing(bucket: Bucket, key: str) -> dict[str, tuple[int, str]]:
    found = bucket.find(f"{key}/{LISTING}")
    if found is None:
        raise ServerFault(f"The base {key} is not in the object storage any more.", code="base_not_usable")
    content: dict[str, tuple[int, str]] = json.loads(b"".join(bucket.read(found.key, 0, found.bytes)))
    return content


def _fetch(bucket: Bucket, key: str, target: Path, wanted: tuple[int, str]) -> None:
    """Raises ServerFault for other bytes than those that were put."""
    partial = target.with_name(f".{target.name}.partial")
    partial.unlink(missing_ok=True)
    size, digest = wanted
    try:
        found = stream_to(partial, bucket.read_whole(key, size)) if size else (0, _empty(partial))
        if found != (size, digest):
            raise ServerFault(f"{key} in the object storage is not what was put there.", code="storage_damaged")
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _empty(path: Path) -> str:
    path.touch()
    return sha256(b"").hexdigest()
