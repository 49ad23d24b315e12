"""What slow one-off work the processes of a server do, for whoever waits for it.

Each process writes a file into the directory that `share` named; its children inherit the name. Nothing depends on the
files: where none can be written, nobody is told.

Not covered: other machines, which do not see the directory.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

VARIABLE = "TUNESMITH_ACTIVITY"
SUFFIX = ".txt"

_own: list[str] = []  # several threads may do something at once


def share(directory: Path) -> None:
    """Lets this process and its children tell what they do, in `directory`."""
    with suppress(OSError):
        directory.mkdir(parents=True, exist_ok=True)
        for path in directory.glob(f"*{SUFFIX}"):
            if not _lives(path):
                path.unlink(missing_ok=True)
    os.environ[VARIABLE] = str(directory)


@contextmanager
def doing(text: str) -> Iterator[None]:
    """Tells that this process does `text` until the block ends."""
    _own.append(text)
    _tell()
    try:
        yield
    finally:
        _own.remove(text)
        _tell()


def here() -> str | None:
    """What this process does, told last; None when nothing is."""
    return next(reversed(_own), None)


def current(directory: Path) -> str | None:
    """What is being done now; None when nothing is.

    That is the newest of what the living processes tell.
    """
    newest: tuple[int, str] | None = None
    for path in directory.glob(f"*{SUFFIX}"):
        with suppress(OSError):  # it ended meanwhile
            text, at = _read(path), path.stat().st_mtime_ns
            if text and _lives(path) and (newest is None or at > newest[0]):
                newest = (at, text)
    return newest[1] if newest else None


def _lives(path: Path) -> bool:
    try:
        os.kill(int(path.stem), 0)
    except (ValueError, ProcessLookupError):
        return False
    except OSError:  # another user's
        return True
    return True


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8") or None
    except OSError:
        return None


def _tell() -> None:
    directory, text = os.environ.get(VARIABLE), here()
    if not directory:
        return
    path = Path(directory) / f"{os.getpid()}{SUFFIX}"
    with suppress(OSError):
        if text is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(text, encoding="utf-8")
