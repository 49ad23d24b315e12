"""A base's digest and licence, from its own files."""

import re
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TypeAlias

from tunesmith.jsonvalue import JsonValue
from tunesmith.system.atomic_write import sha256_of
from tunesmith.system.checked_json import read_checked, write_checked

Looks: TypeAlias = tuple[tuple[str, int, int, int], ...]  # name, size, time and inode of each file
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # changes with each start of a Linux machine
_digests: dict[tuple[Path, Looks], str] = {}  # hashing gigabytes takes a minute: once for each state of the files
MOST_SHOWN = 80  # characters


def base_digest(base_dir: Path, kept: Path | None = None) -> str:
    """The SHA-256 of the names and bytes of config, tokenizer and weight files.

    `kept`: a folder where it is kept for other processes, until a file looks otherwise or the machine is started again.
    """
    files = [base_dir / "config.json", base_dir / "tokenizer.json", *sorted(base_dir.glob("*.safetensors"))]
    looks = tuple(_look(file) for file in files if file.is_file())
    key = (base_dir, looks)
    if key not in _digests:
        _digests[key] = _hashed(base_dir, looks) if kept is None else _kept(base_dir, looks, kept)
    return _digests[key]


def _look(file: Path) -> tuple[str, int, int, int]:
    stat = file.stat()
    return file.name, stat.st_size, stat.st_mtime_ns, stat.st_ino


def _hashed(base_dir: Path, looks: Looks) -> str:
    whole = sha256()
    for name, *_ in looks:
        whole.update(f"{name}:{sha256_of(base_dir / name)}\n".encode())
    return whole.hexdigest()


def _kept(base_dir: Path, looks: Looks, folder: Path) -> str:
    place = folder / f"{sha256(str(base_dir.resolve()).encode()).hexdigest()[:16]}.json"
    seen: JsonValue = {
        "looks": [list(look) for look in looks],
        "boot": BOOT_ID.read_text().strip() if BOOT_ID.is_file() else "",
    }
    found = read_checked(place)
    if isinstance(found, dict) and found.get("seen") == seen:
        return str(found["digest"])
    digest = _hashed(base_dir, looks)
    with suppress(OSError):  # a cache that is only read
        write_checked(place, {"seen": seen, "digest": digest})
    return digest


def base_licence(base_dir: Path) -> str | None:
    """The licence that the base's README or LICENSE names; None where none does."""
    readme = base_dir / "README.md"
    if readme.is_file():
        found = re.search(r"^license:\s*(\S.*)$", readme.read_text("utf-8", errors="replace")[:4000], re.MULTILINE)
        if found:
            return found[1].strip().strip("'\"")[:MOST_SHOWN]
    for file in sorted(base_dir.glob("LICENSE*")):
        lines = (line.strip() for line in file.read_text("utf-8", errors="replace").splitlines())
        return next((line for line in lines if line), file.name)[:MOST_SHOWN]
    return None
