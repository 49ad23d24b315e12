"""A base's digest and licence, from its own files."""

import re
from hashlib import sha256
from pathlib import Path
from typing import TypeAlias

from tunesmith.system.atomic_write import sha256_of

Looks: TypeAlias = tuple[tuple[str, int, int], ...]
_digests: dict[tuple[Path, Looks], str] = {}  # hashing gigabytes takes seconds: once for each state of the files
MOST_SHOWN = 80  # characters


def base_digest(base_dir: Path) -> str:
    """The SHA-256 of the names and bytes of config, tokenizer and weight files."""
    files = [base_dir / "config.json", base_dir / "tokenizer.json", *sorted(base_dir.glob("*.safetensors"))]
    looks = tuple((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file())
    key = (base_dir, looks)
    if key not in _digests:
        whole = sha256()
        for name, _, _ in looks:
            whole.update(f"{name}:{sha256_of(base_dir / name)}\n".encode())
        _digests[key] = whole.hexdigest()
    return _digests[key]


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
