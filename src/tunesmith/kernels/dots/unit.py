"""What a processor multiplies bfloat16 numbers with."""

import ctypes
import platform
import sys
from enum import IntEnum
from typing import cast

from tunesmith.kernels.vectors import features

HAS_VECTOR = "avx512bf16" in features()
HAS_TILES = {"amx-tile", "amx-bf16"} <= features()
WHOLE = 32  # inputs and outputs of a matrix come in so many: those of a tile, and of a square of pairs
_PERMIT, _TILE_DATA = 0x1023, 18  # ARCH_REQ_XCOMP_PERM, and the processor state that AMX keeps its tiles in
_ARCH_PRCTL = 158


class DotUnit(IntEnum):
    """What multiplies bfloat16 numbers."""

    NONE = 0
    VECTOR = 1  # AVX512-BF16
    TILES = 2  # AMX


def dot_unit() -> DotUnit:
    """The fastest unit that this process may use."""
    if HAS_TILES and _permit_tiles():
        return DotUnit.TILES
    return DotUnit.VECTOR if HAS_VECTOR else DotUnit.NONE


def _permit_tiles() -> bool:
    """Asks Linux for the tiles' registers, which a process has to before its first use of them."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    return cast(int, ctypes.CDLL(None).syscall(_ARCH_PRCTL, _PERMIT, _TILE_DATA)) == 0
