"""Where a converted base's quantised matrices are in its GGUF file.

They are served as they are there. The converted base has them in float32 too, for training and exports. What is known
of the file is kept beside the directory, and compared with the file each time that the base is opened: its bytes
once, then its size and time.

What is not covered: experts, which are not served by compiled code; bytes of the file that change without a trace in
its size and time.
"""

import mmap
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from tunesmith.families.blocks.kinds import KINDS, KBlocks, SmallBlocks, block_inputs, row_bytes, take_apart
from tunesmith.models.gguf.weights import Weight, separated
from tunesmith.system.atomic_write import sha256_of
from tunesmith.system.checked_json import read_checked, write_checked
from tunesmith.system.pages import release_pages

SUFFIX = ".gguf.json"


@dataclass(frozen=True, slots=True)
class BlockMatrix:
    """A matrix of quantised blocks in a mapped file."""

    kind: str
    rows: NDArray[np.uint8]  # [outputs, bytes], in the file's order
    inputs: int
    order: NDArray[np.int64] | None  # in which transformers has the rows; None: as they are

    def take(self, outputs: NDArray[np.int64]) -> SmallBlocks | KBlocks:
        """These of its outputs, as transformers counts them, taken apart.

        The file's pages are let go.
        """
        places = outputs if self.order is None else self.order[outputs]
        taken = self.rows[places]
        release_pages(self.rows[places.min() : places.max() + 1])
        return take_apart(self.kind, taken)


@dataclass(frozen=True, slots=True)
class BlockPlace:
    """Where a matrix is in a file.

    `heads`: so many have their two rotary halves interleaved there.
    """

    kind: str
    offset: int
    outputs: int
    inputs: int
    heads: int | None

    @property
    def values(self) -> int:
        """How many numbers it has."""
        return self.outputs * self.inputs

    @property
    def end(self) -> int:
        """The byte behind it."""
        return self.offset + self.outputs * row_bytes(self.kind, self.inputs)


Places: TypeAlias = dict[str, BlockPlace]


@dataclass(frozen=True, slots=True)
class _Known:
    """A GGUF file, as it was when its bytes were compared."""

    file: str
    size: int
    time: int
    sha256: str
    places: Places  # by the matrices' names in transformers

    def is_as_it_was(self, file: Path) -> bool:
        stat = file.stat()
        return (self.file, self.size, self.time) == (str(file), stat.st_size, stat.st_mtime_ns)

    def fits(self, place: BlockPlace) -> bool:
        whole = place.kind in KINDS and place.inputs % block_inputs(place.kind) == 0
        return whole and 0 <= place.offset < place.end <= self.size


_KNOWN: Final = TypeAdapter(_Known)
_seen: dict[Path, _Known] = {}  # as this process found them last


def places_of(weights: Iterable[Weight]) -> Places:
    """Those of the matrices that can be served as they are."""
    found: Places = {}
    for weight in weights:
        source, shape = weight.source, weight.shape
        kind = source.tensor_type.name
        if kind in KINDS and len(shape) == 2 and weight.expert is None and not weight.less_one:
            outputs, inputs = shape
            found[weight.name] = BlockPlace(kind, int(source.data_offset), outputs, inputs, weight.heads)
    return found


def know_file(directory: Path, file: Path, sha256: str, read: Callable[[], Places]) -> None:
    """Keeps what is known of the file that a base was converted from.

    `directory`: the base's. `read` looks for the matrices, once. A file that was moved or touched is compared once
    more; one that has another digest than `sha256` or than before is not served from. "" is any digest.
    """
    known = _seen.get(directory) or _kept(directory)
    if known is not None and known.is_as_it_was(file):
        _seen[directory] = known
        return
    stat, digest = file.stat(), sha256_of(file)
    if known is None and not sha256 and stat.st_mtime_ns > directory.stat().st_mtime_ns:
        expected = ""  # it may be another than what was converted
    else:
        expected = sha256 or (known.sha256 if known else digest)
    places = read() if digest == expected else {}
    _seen[directory] = known = _Known(str(file), stat.st_size, stat.st_mtime_ns, expected, places)
    with suppress(OSError):  # a cache that is only read
        write_checked(_kept_in(directory), _KNOWN.dump_python(known, mode="json"))


def block_places(directory: Path) -> tuple[Path | None, Places]:
    """The file, and what `map_blocks` gives of it.

    (None, {}) if there is nothing, or the file is not as it was.
    """
    known = _seen.get(directory) or _kept(directory)
    with suppress(OSError):
        if known is not None and known.is_as_it_was(Path(known.file)) and all(map(known.fits, known.places.values())):
            return (Path(known.file), known.places) if known.places else (None, {})
    return None, {}


def map_blocks(directory: Path) -> dict[str, BlockMatrix]:
    """The matrices by their names in transformers, over the mapped file.

    {} where there is none.
    """
    file, places = block_places(directory)
    if file is None:
        return {}
    with file.open("rb") as handle:
        data = np.frombuffer(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
    return {name: _matrix(data, place) for name, place in places.items()}


def _matrix(data: NDArray[np.uint8], place: BlockPlace) -> BlockMatrix:
    rows = data[place.offset : place.end].reshape(place.outputs, -1)
    order = None if place.heads is None else separated(place.outputs, place.heads)
    return BlockMatrix(place.kind, rows, place.inputs, order)


def _kept(directory: Path) -> _Known | None:
    try:
        return _KNOWN.validate_python(read_checked(_kept_in(directory)))
    except (OSError, ValidationError):
        return None


def _kept_in(directory: Path) -> Path:
    return directory.with_name(directory.name + SUFFIX)
