"""An export as one tar file, made while it is sent: it takes no room on the disk."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from tarfile import BLOCKSIZE, NUL, TarInfo

from tunesmith.api.exports.shelf import ExportFile

END = NUL * (2 * BLOCKSIZE)


@dataclass(frozen=True, slots=True)
class Archive:
    """`files`, below the directory `name`."""

    files: Sequence[ExportFile]
    name: str

    @property
    def size(self) -> int:
        """How long it is."""
        return sum(len(self._head(file)) + file.size + -file.size % BLOCKSIZE for file in self.files) + len(END)

    def blocks(self) -> Iterator[bytes]:
        """Its bytes. Raises OSError where a file is gone meanwhile."""
        for file in self.files:
            yield self._head(file)
            yield from file.read(0, file.size)
            yield NUL * (-file.size % BLOCKSIZE)
        yield END

    def _head(self, file: ExportFile) -> bytes:
        member = TarInfo(f"{self.name}/{file.name}")
        member.size, member.mtime = file.size, int(file.modified)
        return member.tobuf()
