"""Compiles Python functions to machine code with Numba, and keeps it on disk.

`@compiled` and `@entry` mark such functions. Compiling everything takes some 40 seconds, once per machine and version
of the sources. Numba's own cache checks only the file of the function it keeps, so the folder's name tells which
sources all of the code was made from. Each file ends with a digest of its bytes: what a disk has damaged is compiled
again, instead of running.
"""

import hashlib
import logging
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Literal, TypeVar, cast

import numba
import numpy
from numba import config
from numba.core.bytecode import FunctionIdentity
from numba.core.caching import IndexDataCacheFile
from platformdirs import user_cache_path

log = logging.getLogger(__name__)

FunctionT = TypeVar("FunctionT", bound=Callable[..., object])

# Sums may be split over vector lanes, and a multiplication and an addition fused: the order is fixed when the code is
# compiled, so equal input gives equal output. Not "fast": NaN must stay NaN, or a broken model's answers would look
# like those of a working one.
FAST_MATH = {"reassoc", "contract", "arcp", "nsz"}


DIGEST_BYTES = 32


number = cast(Callable[[int], int], numpy.int64)
"""Put around a literal argument: Numba compiles a function anew for every literal that it is called with."""


def _folder() -> Path:
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(source.read_bytes())
    return _CACHE / "kernels" / digest.hexdigest()[:16]


def cache_dir(environment: Mapping[str, str]) -> Path:
    """Where compiled code is kept: the setting `cache_dir`, as commands pass it on."""
    chosen = environment.get("NUMBA_CACHE_DIR") or environment.get("TUNESMITH_CACHE_DIR")
    return Path(chosen).expanduser() if chosen else user_cache_path("tunesmith", appauthor=False)


_CACHE = cache_dir(os.environ)
config.CACHE_DIR = str(_folder())

# Numba numbers the functions that a process compiles, from 1. The number is all that tells the symbols of a factory's
# functions apart (`multiply` for 3 rows from that for 4), and of two symbols of one name the linker takes the first:
# code from the disk would call what this process has compiled, and compute something else. So no two processes use the
# same numbers.
FunctionIdentity._unique_ids = count(secrets.randbits(62))


def compiled(function: FunctionT) -> FunctionT:
    """Marks a function that only compiled functions call.

    Its code is kept as a part of its callers'.
    """
    return cast(FunctionT, numba.njit(function, nogil=True, fastmath=FAST_MATH, error_model="numpy"))


def entry(function: FunctionT) -> FunctionT:
    """Marks a function that Python calls.

    It runs without the interpreter's lock, so threads run it in parallel.
    """
    made = numba.njit(function, nogil=True, cache=True, fastmath=FAST_MATH, error_model="numpy")
    kept = made._cache
    if (folder := _folder_of(Path(made.py_func.__code__.co_filename))) is not None:
        kept._cache_path = kept._impl.locator._cache_path = folder
    kept._cache_file = CheckedCacheFile(kept._cache_path, kept._impl.filename_base, kept._cache_file._source_stamp)
    return cast(FunctionT, made)


def _folder_of(source: Path) -> str | None:
    """Where the code of one of our own files is kept; None for files of others.

    Numba's folder has a name for the file's place, so that each checkout of the same sources would compile them again.
    """
    own = Path(__file__).parent
    return str(Path(config.CACHE_DIR) / source.parent.relative_to(own)) if source.is_relative_to(own) else None


class CheckedCacheFile(IndexDataCacheFile):  # type: ignore[misc]  # Numba is not typed
    """Numba's files of one function, each with a digest at its end.

    That is the SHA-256 of its bytes, which reading it skips. The code of a damaged file could crash, or compute
    something else.
    """

    def save(self, key: object, data: object) -> None:
        """Keeps compiled code.

        Where there is no room for it, it is compiled again next time.
        """
        try:
            super().save(key, data)
        except OSError as error:
            log.warning("compiled code is not kept in %s: %s", self._cache_path, error)

    def _load_index(self) -> dict[object, str]:
        return super()._load_index() if _is_whole(Path(self._index_path)) else {}

    def _load_data(self, name: str) -> object:
        path = Path(self._data_path(name))
        if not _is_whole(path):
            raise FileNotFoundError(path)  # upon which Numba compiles
        return super()._load_data(name)

    @contextmanager
    def _open_for_write(self, filepath: str) -> Iterator[BytesIO]:
        with super()._open_for_write(filepath) as file:
            yield (content := BytesIO())
            file.write(content.getvalue() + hashlib.sha256(content.getvalue()).digest())


def _is_whole(path: Path) -> bool:
    """False also without the file; a damaged one is removed, with a line in the log."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    if hashlib.sha256(content[:-DIGEST_BYTES]).digest() == content[-DIGEST_BYTES:]:
        return True
    log.warning("the compiled code in %s is damaged; it is compiled again", path)
    path.unlink(missing_ok=True)
    return False


def is_cached(function: Callable[..., object]) -> bool:
    """Whether the code of an entry for this processor is on disk.

    Machines may share the folder. If it is not, the first call takes 20 seconds on an idle processor.
    """
    kept: CheckedCacheFile = function._cache._cache_file  # type: ignore[attr-defined]
    processor = function.targetctx.codegen().magic_tuple()  # type: ignore[attr-defined]  # the second part of a key
    index = cast(dict[tuple[object, ...], str], kept._load_index())  # empty where it was made from other sources
    names = [name for key, name in index.items() if key[1] == processor]
    return bool(names) and all(_is_whole(Path(kept._data_path(name))) for name in names)


def precompile(mode: Literal["serving", "training"], *functions: Callable[..., object]) -> None:
    """Has another process compile the entries of a mode, unless their code is on disk.

    A process that compiles has every function twice, alone and within the entry, and the linker picks either: sums may
    run in another order there and differ in their last bits from all processes that read the code from disk.
    """
    if not all(map(is_cached, functions)):
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(_CACHE)}  # this process's, whatever has changed since
        subprocess.run(command(mode), stdout=subprocess.DEVNULL, check=False, env=environment)
        # If it fails, this process compiles.


def command(mode: str) -> list[str]:
    """What compiles one mode in a process of its own.

    `-P` as in `tunesmith.system.python`, which kernels do not import.
    """
    return [sys.executable, "-P", "-m", "tunesmith.kernels", mode]
