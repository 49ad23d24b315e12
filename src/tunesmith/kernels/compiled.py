"""`@compiled` and `@entry`: a Python function over numbers and arrays as machine code, made by Numba and kept on disk.

Compiling everything takes some 40 seconds, once per machine and version of the sources: Numba's own cache looks only
at the file of the function it keeps, so the folder's name says which sources all of it was made from.
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar, cast

import numba
import numpy
from numba import config
from platformdirs import user_cache_path

FunctionT = TypeVar("FunctionT", bound=Callable[..., object])

# Sums may be reordered into lanes and multiplied-and-added at once: the order is fixed when the code is made, so equal
# input gives equal output. Not "fast": NaN must stay NaN, or a broken model would answer as if it were none.
LANES = {"reassoc", "contract", "arcp", "nsz"}


number = cast(Callable[[int], int], numpy.int64)
"""Around a literal: Numba compiles a function anew for every literal that it is called with."""


def _folder() -> Path:
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return Path(os.environ.get("NUMBA_CACHE_DIR") or user_cache_path("tunesmith")) / "kernels" / digest.hexdigest()[:16]


config.CACHE_DIR = str(_folder())


def compiled(function: FunctionT) -> FunctionT:
    """For functions that only compiled ones call; they are kept as a part of these."""
    return cast(FunctionT, numba.njit(function, nogil=True, fastmath=LANES, error_model="numpy"))


def entry(function: FunctionT) -> FunctionT:
    """For those that Python calls: they run without the interpreter's lock, so threads run them at the same time."""
    return cast(FunctionT, numba.njit(function, nogil=True, cache=True, fastmath=LANES, error_model="numpy"))


def is_made(function: Callable[..., object]) -> bool:
    """Whether the code of an entry is on disk. False: its first call takes some 20 seconds."""
    source = Path(function.__code__.co_filename)
    folder = Path(function.stats.cache_path)  # type: ignore[attr-defined]
    kept = folder.glob(f"*.{function.__name__}-*.nbi")
    return any(index.stat().st_mtime >= source.stat().st_mtime for index in kept)  # Numba takes no older one


def make(way: Literal["serving", "training"], function: Callable[..., object]) -> None:
    """Has another process compile an entry and all that it calls, unless that is on disk.

    The process that compiles has every function twice, by itself and within the entry, and the linker takes the one
    or the other: sums in another order, and other bits than in all processes that read the code from disk.
    """
    if not is_made(function):
        command = [sys.executable, "-m", "tunesmith.kernels", way]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=False)  # without it, this process compiles
