"""A folder as one tar file, made while it is sent: it takes no room on the disk."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tarfile import BLOCKSIZE, NUL, TarInfo

BLOCK_BYTES = 1 << 20
END = NUL * (2 * BLOCKSIZE)


@dataclass(frozen=True, slots=True)
class Archive:
    """The files of `folder`, below the directory `name`."""

    folder: Path
    name: str

    @property
    def size(self) -> int:
        """How long it is."""
        heads = ((len(head), file.stat().st_size) for file, head in self._members())
        return sum(head + size + -size % BLOCKSIZE for head, size in heads) + len(END)

    def blocks(self) -> Iterator[bytes]:
        """Its bytes.

        Raises OSError where a file is gone meanwhile.
        """
        for file, head in self._members():
            yield head
            with file.open("rb") as content:
                while block := content.read(BLOCK_BYTES):
                    yield block
            yield NUL * (-file.stat().st_size % BLOCKSIZE)
        yield END

    def _members(self) -> Iterator[tuple[Path, bytes]]:
        for file in sorted(path for path in self.folder.rglob("*") if path.is_file()):
            member = TarInfo(f"{self.name}/{file.relative_to(self.folder)}")
            member.size, member.mtime = file.stat().st_size, int(file.stat().st_mtime)
            yield file, member.tobuf()
