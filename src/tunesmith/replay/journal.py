"""The journal beside the output, from which a killed run goes on.

No answered row is asked twice.

Line 1 says who was asked, and how. Then, for each row: `{"asked": KEY, "reserved": USD}` before the request is sent,
and `{"key": KEY, "cost": USD, "row": {…}}` or `{"key": KEY, "cost": USD, "refused": SENTENCE}` after the answer, on
disk before the next row is asked. A row that was asked but not answered may have been charged: its reservation counts.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import orjson

from tunesmith.errors import DataError
from tunesmith.jsonvalue import JsonObject

VERSION = 1


@dataclass(frozen=True, slots=True)
class Asked:
    """Who is asked, and how; a journal holds the answers to one of these."""

    teacher: str
    host: str
    parameters: JsonObject


@dataclass(frozen=True, slots=True)
class Entry:
    """What came of one row: the training row, or why there is none."""

    key: str
    cost: float
    row: JsonObject | None = None
    refused: str | None = None


class Journal:
    """The journal of one output file, opened by one process at a time."""

    def __init__(self, path: Path, asked: Asked) -> None:
        """Opens the journal, or begins one.

        Raises DataError for a journal of another teacher, or of other parameters.
        """
        self.path = path
        self.spent = 0.0
        self._at: dict[str, int] = {}  # key -> where its entry begins
        self._open: dict[str, float] = {}  # asked and not answered -> what that may have cost
        self.is_new = not path.exists() or path.stat().st_size == 0
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
        try:
            _require_alone(self._file.fileno(), path)
            self._begin(asked)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __contains__(self, key: str) -> bool:
        """Whether the row has its answer, or was refused one."""
        return key in self._at

    def __len__(self) -> int:
        return len(self._at)

    def entry(self, key: str) -> Entry:
        """The entry of a row."""
        end = self._file.tell()
        self._file.seek(self._at[key])
        value = orjson.loads(self._file.readline())
        self._file.seek(end)
        return Entry(value["key"], value["cost"], value.get("row"), value.get("refused"))

    def reserve(self, key: str, cost: float) -> None:
        """Notes that a row is about to be asked, which may cost this much."""
        self._open[key] = self._open.get(key, 0.0) + cost
        self.spent += cost
        self._write({"asked": key, "reserved": cost})
        self._file.flush()  # survives our death; only the answers need to survive the machine's

    def add(self, entry: Entry) -> None:
        """Keeps what came of a row, in place of one request's reservation."""
        self._take(entry, self._file.tell())
        result = {"refused": entry.refused} if entry.row is None else {"row": entry.row}
        self._write({"key": entry.key, "cost": entry.cost, **result})
        self.flush()

    def _begin(self, asked: Asked) -> None:
        if not self.is_new and self._asked_nothing():
            self._file.truncate(0)
        elif not self.is_new:
            self._read(asked)
        if self._file.tell() == 0:
            self._write({"replay": VERSION, **asdict(asked)})
            self.flush()

    def _asked_nothing(self) -> bool:
        """Whether there is a first line only, as where a cap or an error came before the first row."""
        lines = [self._file.readline(), self._file.readline()]
        self._file.seek(0)
        return not lines[1]

    def flush(self) -> None:
        """Puts what was written on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def _take(self, entry: Entry, at: int) -> None:
        self._at[entry.key] = at
        self.spent += entry.cost - self._open.pop(entry.key, 0.0)

    def _write(self, value: JsonObject) -> None:
        self._file.write(orjson.dumps(value) + b"\n")

    def _read(self, asked: Asked) -> None:
        """Reads what is there; what a crash left of the last line is cut off."""
        end = 0
        for at, value in _lines(self._file.readline):
            if at == 0:
                _require_same(self.path, value, asked)
            elif isinstance(key := value.get("asked"), str):
                cost = float(str(value["reserved"]))
                self._open[key] = self._open.get(key, 0.0) + cost
                self.spent += cost
            else:
                self._take(Entry(str(value["key"]), float(str(value["cost"]))), at)
            end = self._file.tell()
        self._file.seek(end)
        self._file.truncate()


def _lines(readline: Callable[[], bytes]) -> Iterator[tuple[int, JsonObject]]:
    """(where it begins, value) of each whole line, up to the first that is broken."""
    at = 0
    while line := readline():
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            return
        if not line.endswith(b"\n") or not isinstance(value, dict):
            return
        yield at, value
        at += len(line)


def _require_alone(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DataError(f"Another replay is writing {path}; wait for its end, or name another --output.") from None


def _require_same(path: Path, first: JsonObject, asked: Asked) -> None:
    now = {"replay": VERSION, **asdict(asked)}
    differs = [name for name in now if first.get(name) != now[name]]
    if differs:
        was = ", ".join(f"{name} {orjson.dumps(first.get(name)).decode()}" for name in differs)
        raise DataError(
            f"{path} holds answers of another replay ({was}). Ask with the same options to go on, "
            "name another --output, or begin anew with --overwrite."
        )
