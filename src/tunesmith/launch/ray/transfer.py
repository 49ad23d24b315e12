"""What a trainer reads, put into object storage and fetched by a node.

Rows go below their job's output, where they are removed at the job's end; a base goes to `bases/`, once, and stays.
It is known by its bytes: bases of one family differ in their weights alone, and all their files have the same sizes.
"""

import json
import shutil
from hashlib import sha256
from pathlib import Path

from tunesmith.data_paths import Paths
from tunesmith.errors import ServerFault
from tunesmith.jsonvalue import JsonObject
from tunesmith.launch.ray.order import Input
from tunesmith.models.seal import sealed_digests
from tunesmith.store.objects.blobs import stream_to
from tunesmith.store.queue.job_files import JobFiles
from tunesmith.store.storage.bucket import Bucket, StorageDamaged
from tunesmith.store.storage.folder_cache import FETCHING, name_folder, partial_of, remove_abandoned
from tunesmith.store.storage.model_folders import BucketFolders
from tunesmith.system.atomic_write import make_directories, sha256_of

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
            found[name] = _put_folder(bucket, folder, Paths(data_dir).seals)
    return found


def is_base(folder: Path, one: Input, seals: Path) -> bool:
    """Whether a folder has the files of a base, byte for byte.

    Their digests are kept in `seals`: hashing gigabytes takes a while, once.
    """
    if not (folder / "config.json").is_file() or sum(path.stat().st_size for path in _files(folder)) != one.size:
        return False
    return _mark(_digests(folder, seals)) == one.digest


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
    remove_abandoned(target.parent.glob(f".*{FETCHING}"))
    partial = partial_of(target)
    make_directories(partial)
    try:
        for name, (size, digest) in _listing(bucket, one.key).items():
            _fetch(bucket, f"{one.key}/{name}", partial / Path(name).name, (size, digest))
        name_folder(partial, target, "config.json")
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


def _put_folder(bucket: Bucket, folder: Path, seals: Path) -> Input:
    digests, files = _digests(folder, seals), _files(folder)
    sizes = {path.name: path.stat().st_size for path in files}
    mark = _mark(digests)
    key = f"{BASES}/{mark}"
    if bucket.find(f"{key}/{LISTING}") is None:
        for path in files:
            bucket.put(f"{key}/{path.name}", path)
        listing = {name: (size, digests[name]) for name, size in sizes.items()}
        bucket.put_bytes(f"{key}/{LISTING}", json.dumps(listing).encode())  # last: now the base is there
    return Input("folder", key, str(folder), sum(sizes.values()), mark)


def _digests(folder: Path, seals: Path) -> dict[str, str]:
    """The SHA-256 of each file of a base."""
    place = seals / f"{sha256(str(folder.resolve()).encode()).hexdigest()[:16]}.json"
    known = sealed_digests(folder, place)
    return {path.name: known[path.name] for path in _files(folder)}


def _mark(digests: dict[str, str]) -> str:
    """16 hex digits that change with any byte of a base's files."""
    lines = (f"{name}:{digest}\n" for name, digest in sorted(digests.items()))
    return sha256("".join(lines).encode()).hexdigest()[:16]


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _listing(bucket: Bucket, key: str) -> dict[str, tuple[int, str]]:
    found = bucket.content(f"{key}/{LISTING}")
    if found is None:
        raise ServerFault(f"The base {key} is not in the object storage any more.", code="base_not_usable")
    content: dict[str, tuple[int, str]] = json.loads(found)
    return content


def _fetch(bucket: Bucket, key: str, target: Path, wanted: tuple[int, str]) -> None:
    """Raises StorageDamaged for other bytes than those that were put."""
    partial = target.with_name(f".{target.name}.partial")
    partial.unlink(missing_ok=True)
    size, digest = wanted
    try:
        found = stream_to(partial, bucket.read_whole(key, size)) if size else (0, _empty(partial))
        if found != (size, digest):
            text = f"{key} in the object storage is not what was put there: remove it there, and it is put again."
            raise StorageDamaged(text)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _empty(path: Path) -> str:
    path.touch()
    return sha256(b"").hexdigest()
