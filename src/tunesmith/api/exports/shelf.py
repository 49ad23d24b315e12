"""Where exports stand: for the servers of one machine, below the data directory."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, get_args

from tunesmith.api.exports.state import State, name_of, read_state, write_state
from tunesmith.export.kinds import Kind

BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ExportFile:
    """A file of a finished export. `name`: its path inside the export."""

    name: str
    size: int
    modified: float
    read: Callable[[int, int], Iterator[bytes]]  # from a place to before another; raises OSError where it is gone
    path: Path | None = None  # where it is on this machine


class Transfer(Protocol):
    """A writing as a shelf sees it, which may take long to put files away."""

    stopped: bool
    sent: int  # bytes that were put away


class Shelf(Protocol):
    """Finished exports, and who writes which. Any thread may call."""

    is_shared: bool  # by servers that do not see this one's disk

    def states(self, model: str) -> Mapping[Kind, State]:
        """Where a model's exports stand, also those that others write."""
        ...

    def begin(self, state: State) -> None:
        """Says that an export begins, in the place of an earlier one."""
        ...

    def announce(self, state: State) -> bool:
        """Says that an export goes on; False where somebody has cancelled it."""
        ...

    def put_files(self, state: State, folder: Path, transfer: Transfer) -> None:
        """Puts the files of a finished export away."""
        ...

    def settle(self, state: State) -> bool:
        """Says how an export has ended; False where it was cancelled before."""
        ...

    def discard(self, state: State) -> None:
        """Removes what one writing has put, and no other."""
        ...

    def files(self, state: State) -> list[ExportFile]:
        """The files of a finished export, sorted by name."""
        ...

    def remove(self, model: str, kind: Kind) -> None:
        """Removes what there is of an export."""
        ...

    def sweep(self, is_kept: Callable[[State], bool]) -> int:
        """Removes all that is not kept, and what belongs to nothing; counts exports."""
        ...


class LocalShelf:
    """The folders of one data directory, each with its state beside it."""

    is_shared = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def states(self, model: str) -> Mapping[Kind, State]:
        """Those that have ended; what is being written its writer knows."""
        found: dict[Kind, State] = {}
        for kind in get_args(Kind):
            path = self._path(model, kind)
            state = read_state(path.with_suffix(".json"))
            if state is not None and (state.phase != "done" or path.is_dir()):
                found[kind] = state
        return found

    def begin(self, state: State) -> None:
        """Removes the earlier one."""
        self.remove(state.model, state.kind)

    def announce(self, state: State) -> bool:
        """Only its own server can cancel it."""
        return True

    def put_files(self, state: State, folder: Path, transfer: Transfer) -> None:
        """They are where they belong."""

    def settle(self, state: State) -> bool:
        """Keeps the state beside the folder."""
        write_state(self._folder, state)
        return True

    def discard(self, state: State) -> None:
        """There is nothing of a writing that was stopped."""

    def files(self, state: State) -> list[ExportFile]:
        """Those of the folder."""
        folder = self._path(state.model, state.kind)
        return [_file(folder, path) for path in sorted(folder.rglob("*")) if path.is_file()]

    def remove(self, model: str, kind: Kind) -> None:
        """The state goes first."""
        path = self._path(model, kind)
        path.with_suffix(".json").unlink(missing_ok=True)
        shutil.rmtree(path, ignore_errors=True)

    def sweep(self, is_kept: Callable[[State], bool]) -> int:
        """By the states that were kept."""
        return sweep_folder(self._folder, is_kept)

    def _path(self, model: str, kind: Kind) -> Path:
        return self._folder / name_of(model, kind)


def sweep_folder(folder: Path, is_kept: Callable[[State], bool]) -> int:
    """Removes the exports of a folder that are not kept; counts them."""
    gone = 0
    for path in folder.glob("*.json"):
        state = read_state(path)
        if state is None or not is_kept(state):
            path.unlink(missing_ok=True)
            shutil.rmtree(path.with_suffix(""), ignore_errors=True)
            gone += 1
    return gone


def _file(folder: Path, path: Path) -> ExportFile:
    found = path.stat()
    return ExportFile(
        path.relative_to(folder).as_posix(), found.st_size, found.st_mtime, lambda *span: _read(path, *span), path
    )


def _read(path: Path, start: int, end: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while start < end and (block := file.read(min(BLOCK_BYTES, end - start))):
            start += len(block)
            yield block
