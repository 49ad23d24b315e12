"""The result of scanning a chunk, and how it travels between processes.

JSON and raw numbers, nothing else.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from tunesmith.check.scan.row_forms import MAX_FORMS
from tunesmith.jsonvalue import JsonObject
from tunesmith.rows.findings import Finding, FindingLog
from tunesmith.rows.row_faults import Kind
from tunesmith.tokens import DEFAULT_ENCODING

ARRAYS = {
    "lines": np.int32,
    "messages": np.int32,
    "tokens": np.int32,
    "learned": np.int32,
    "system_tokens": np.int32,
    "before": np.int32,
    "most_tokens": np.int32,
    "systems": np.uint64,
    "prompts": np.int64,
    "answers": np.int64,
}
BLOCK_ROWS = 1_000_000  # at a time, to bound the memory that is needed besides the rows' own numbers


@dataclass(frozen=True, slots=True)
class ScanOptions:
    """What decides the result of a pass over rows, and `threads`, which does not."""

    kind: Kind | None = None  # what the file holds; None: each row is taken for what it looks like
    find_kind: bool = False  # instead: the kind of the first row that has one
    reinforcement: bool = False  # then rows of messages are taken for prompts
    encoding: str = DEFAULT_ENCODING
    analysers: tuple[str, ...] = ()
    lost: bytes = b""  # bytes that the base's tokenizer has no token for
    threads: int = 0  # of the token counter: 0 takes every core, workers take 1


@dataclass(slots=True)
class Partial:
    """What one analyser found in one chunk: JSON, and arrays for large results."""

    data: JsonObject = field(default_factory=dict)
    arrays: dict[str, NDArray[np.generic]] = field(default_factory=dict)


def _empty(name: str) -> NDArray[np.generic]:
    return np.zeros(0, ARRAYS[name])


@dataclass(slots=True)
class ChunkResult:
    """What one chunk adds to the report.

    Each array has one entry per row without errors; see `Batch`.

    `before` are OpenAI's tokens before the first answer; `most_tokens` bounds what any base needs for the row's texts.
    `forms` are those of the rows (see `row_forms`), None where they are too many or not known; `odd_bytes` are the
    bytes that occur in the texts besides printable ASCII.
    """

    kind: Kind | None = None
    examples: int = 0
    bad_rows: int = 0
    blank_lines: int = 0
    first_blank: int | None = None
    kinds: dict[str, int] = field(default_factory=dict)
    roles: dict[str, int] = field(default_factory=dict)
    forms: set[str] | None = field(default_factory=set)
    odd_bytes: set[int] = field(default_factory=set)
    log: FindingLog = field(default_factory=FindingLog)
    partials: dict[str, Partial] = field(default_factory=dict)
    lines: np.ndarray = field(default_factory=lambda: _empty("lines"))
    messages: np.ndarray = field(default_factory=lambda: _empty("messages"))
    tokens: np.ndarray = field(default_factory=lambda: _empty("tokens"))
    learned: np.ndarray = field(default_factory=lambda: _empty("learned"))
    system_tokens: np.ndarray = field(default_factory=lambda: _empty("system_tokens"))
    before: np.ndarray = field(default_factory=lambda: _empty("before"))
    most_tokens: np.ndarray = field(default_factory=lambda: _empty("most_tokens"))
    systems: np.ndarray = field(default_factory=lambda: _empty("systems"))
    prompts: np.ndarray = field(default_factory=lambda: _empty("prompts"))
    answers: np.ndarray = field(default_factory=lambda: _empty("answers"))
    path: Path | None = None  # the file, once its parts are merged

    def add_kind(self, kind: str, rows: int = 1) -> None:
        """Counts rows of a kind."""
        self.kinds[kind] = self.kinds.get(kind, 0) + rows

    def add_role(self, role: str, messages: int = 1) -> None:
        """Counts messages of a role."""
        self.roles[role] = self.roles.get(role, 0) + messages

    def add_form(self, form: str | None) -> None:
        """Adds the form of a row; None, or one too many, makes the forms unknown."""
        if self.forms is None or form in self.forms:
            return
        if form is None or len(self.forms) == MAX_FORMS:
            self.forms = None
        else:
            self.forms.add(form)

    def to_wire(self) -> tuple[bytes, list[bytes]]:
        """A JSON header and the arrays' bytes, in the order the header names."""
        arrays: dict[str, NDArray[np.generic]] = {name: getattr(self, name) for name in ARRAYS}
        for analyser, partial in self.partials.items():
            arrays |= {f"{analyser}/{name}": array for name, array in partial.arrays.items()}
        header = {
            **{name: getattr(self, name) for name in _PLAIN},
            "forms": None if self.forms is None else sorted(self.forms),
            "odd_bytes": sorted(self.odd_bytes),
            "counts": self.log.counts,
            "listed": [one.to_json() for one in (*self.log.errors, *self.log.warnings)],
            "partials": {name: partial.data for name, partial in self.partials.items()},
            "arrays": [[name, str(array.dtype), list(array.shape), array.nbytes] for name, array in arrays.items()],
        }
        return orjson.dumps(header), [np.ascontiguousarray(array).tobytes() for array in arrays.values()]

    @classmethod
    def from_wire(cls, header: JsonObject, arrays: dict[str, NDArray[np.generic]]) -> "ChunkResult":
        """The reverse of `to_wire`."""
        result = cls(**{name: header[name] for name in _PLAIN})  # type: ignore[arg-type]
        forms, odd = header["forms"], header["odd_bytes"]
        result.forms = {str(form) for form in forms} if isinstance(forms, list) else None
        result.odd_bytes = {byte for byte in odd if isinstance(byte, int)} if isinstance(odd, list) else set()
        counts, listed, partials = header["counts"], header["listed"], header["partials"]
        if isinstance(counts, dict) and isinstance(listed, list) and isinstance(partials, dict):
            found = [Finding.from_json(one) for one in listed if isinstance(one, dict)]
            result.log.merge({code: int(str(count)) for code, count in counts.items()}, found)
            for name, data in partials.items():
                result.partials[name] = Partial(data if isinstance(data, dict) else {})
        for name, array in arrays.items():
            analyser, slash, own = name.partition("/")
            if slash:
                result.partials[analyser].arrays[own] = array
            else:
                setattr(result, name, array)
        return result


_PLAIN = ("kind", "examples", "bad_rows", "blank_lines", "first_blank", "kinds", "roles")


def read_arrays(
    described: Sequence[tuple[str, str, Sequence[int], int]], read: Callable[[int], bytes]
) -> dict[str, NDArray[np.generic]]:
    """The arrays of `to_wire`; its header has each as (name, dtype, shape, bytes)."""
    return {name: np.frombuffer(read(size), dtype=kind).reshape(shape) for name, kind, shape, size in described}


def merged(results: Iterable[ChunkResult], log: FindingLog) -> tuple[ChunkResult, list[ChunkResult]]:
    """All results as one, and each one's partials; findings go to `log`.

    Each is taken in as it comes, so that the numbers of a file of short rows are in memory once.
    """
    whole = ChunkResult(log=log)
    columns = {name: bytearray() for name in ARRAYS}
    parts = []
    for part in results:
        _add_counts(whole, part)
        log.merge(part.log.counts, [*part.log.errors, *part.log.warnings])
        for name, column in columns.items():
            column += getattr(part, name).tobytes()
        parts.append(ChunkResult(partials=part.partials))
    for name, column in columns.items():
        setattr(whole, name, np.frombuffer(column, ARRAYS[name]))
    return whole, parts


def _add_counts(whole: ChunkResult, part: ChunkResult) -> None:
    whole.kind = whole.kind or part.kind
    whole.examples += part.examples
    whole.bad_rows += part.bad_rows
    whole.blank_lines += part.blank_lines
    whole.first_blank = whole.first_blank or part.first_blank
    whole.odd_bytes |= part.odd_bytes
    for kind, rows in part.kinds.items():
        whole.add_kind(kind, rows)
    for role, messages in part.roles.items():
        whole.add_role(role, messages)
    for form in [None] if part.forms is None else sorted(part.forms):
        whole.add_form(form)


def repeated(digests: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows whose digest another row has too, ascending.

    Takes 12 bytes a row while it searches.
    """
    ordered = np.sort(digests)
    values = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    del ordered
    found = [np.zeros(0, np.int64)]
    for start in range(0, len(digests) if values.size else 0, BLOCK_ROWS):
        part = digests[start : start + BLOCK_ROWS]
        at = np.minimum(np.searchsorted(values, part), values.size - 1)
        found.append(np.flatnonzero(values[at] == part) + start)
    return np.concatenate(found)


def options_to_json(options: ScanOptions) -> JsonObject:
    """The options as they are sent to a worker process."""
    return {**asdict(options), "analysers": list(options.analysers), "lost": options.lost.hex()}


def options_from_json(value: JsonObject) -> ScanOptions:
    """The reverse of `options_to_json`."""
    analysers = value.pop("analysers")
    names = tuple(str(name) for name in analysers) if isinstance(analysers, list) else ()
    lost = bytes.fromhex(str(value.pop("lost")))
    return ScanOptions(**value, analysers=names, lost=lost)  # type: ignore[arg-type]
