"""Keeps passes over files, so that an upload and its jobs read a file once.

They are kept under the hash of the file.

A kept pass is used only if it was made by these rules (`CHECK_VERSION`, and the release), with the same options, of
the same bytes, and is whole; whatever else is found is made again. Nothing depends on it being there.

Not covered: a changed model behind `analysers` that judge (a moderation service); their results name it themselves.
"""

import logging
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from io import BytesIO
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from tunesmith import __version__
from tunesmith.check.scan.file_scan import FileScan
from tunesmith.check.scan.result import ChunkResult, ScanOptions, options_to_json, read_arrays
from tunesmith.jsonvalue import JsonObject
from tunesmith.system.atomic_write import write_atomically

log = logging.getLogger(__name__)

CHECK_VERSION = 6  # raise when the same file would give other findings or numbers
DIGEST_BYTES = 16


class KeptScans:
    """A directory of kept passes.

    Each is one file, `<sha256>.<digest of the options>`.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def of(self, sha256: str) -> "KeptScan":
        """The kept passes over the file with this hash."""
        return KeptScan(self._directory, sha256)

    def discard(self, sha256: str) -> None:
        """Removes what is kept of a deleted file, as findings quote its text.

        What cannot be removed is left to the next `sweep`, with a warning.
        """
        for path in self._directory.glob(f"{sha256}.*"):
            _remove(path)

    def sweep(self, live: Collection[str]) -> int:
        """Removes what is kept of all files but those with the hashes `live`.

        Returns how many passes were removed.
        """
        gone = [path for path in self._directory.glob("*") if path.name.partition(".")[0] not in live]
        return sum(map(_remove, gone))


@dataclass(frozen=True, slots=True)
class KeptScan:
    """The kept passes over one file, by options."""

    directory: Path
    sha256: str

    def read(self, path: Path, options: ScanOptions) -> FileScan | None:
        """The kept pass over the file at `path`; None if there is none to be trusted."""
        key = self._key(options)
        try:
            content = self._path(key).read_bytes()
            digest, content = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
            if digest != _digest(content):
                return None
            stream = BytesIO(content)
            header = orjson.loads(stream.readline())
            if header["key"] != key:
                return None
            return _scan_from(header, read_arrays(header.pop("arrays"), stream.read), path)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
            return None

    def write(self, options: ScanOptions, scan: FileScan) -> None:
        """Keeps a pass.

        A full disk, or another process that writes the same, is no reason to fail a check.
        """
        key = self._key(options)
        head, arrays = scan.rows.to_wire()
        header = {**orjson.loads(head), "key": key, "sections": scan.sections, "readable": scan.readable}
        content = b"".join((orjson.dumps(header), b"\n", *arrays))
        with suppress(OSError):
            self.directory.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path(key), _digest(content) + content, durable=False)

    def _key(self, options: ScanOptions) -> JsonObject:
        """All that decides the result of a pass, besides the bytes of the file."""
        wanted = options_to_json(options)
        del wanted["threads"]
        return {"check": CHECK_VERSION, "release": __version__, "sha256": self.sha256, "options": wanted}

    def _path(self, key: JsonObject) -> Path:
        return self.directory / f"{self.sha256}.{_digest(orjson.dumps(key)).hex()}"


def _remove(path: Path) -> bool:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("%s cannot be removed: %s", path, error)
        return False
    return True


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=DIGEST_BYTES).digest()


def _scan_from(header: JsonObject, arrays: dict[str, NDArray[np.generic]], path: Path) -> FileScan:
    sections = header["sections"]
    rows = ChunkResult.from_wire(header, arrays)
    rows.path = path
    return FileScan(rows, sections if isinstance(sections, dict) else {}, readable=header["readable"] is True)
