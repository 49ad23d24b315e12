"""`@compiled` and `@entry`: a Python function over numbers and arrays as machine code, made by Numba and kept on disk.

Compiling everything takes some 40 seconds, once per machine and version of the sources: Numba's own cache looks only
at the file of the function it keeps, so the folder's name says which sources all of it was made from.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

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


def is_made(name: str) -> bool:
    """False: the first call of the entry `name` takes some 20 seconds."""
    return any(Path(config.CACHE_DIR).rglob(f"*.{name}-*.nbc"))
