"""The quantised blocks of GGUF's matrices, taken apart without rounding.

Two forms hold what they say, and give each weight in float32 by the operations of GGUF's own dequantisation:

    blocks of 32 inputs (Q8_0, Q5_0, Q4_0, IQ4_NL)      w = d * q
    blocks of 256 in sub-blocks (Q2_K to Q6_K)          w = (d * scale) * q - dmin * least

Source of the layouts: ggml's `ggml-quants.c` and the gguf package's `quants.py`, which a test compares.

What is not covered: Q4_1 and Q5_1, whose blocks of 32 have a least value of their own; IQ formats with tables, ternary
and MXFP4. They are read dequantised.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

SMALL_BLOCK, K_BLOCK = 32, 256  # inputs; the latter of the K formats
_IQ4_NL = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.int8)


@dataclass(frozen=True, slots=True)
class SmallBlocks:
    """Rows in blocks of 32 inputs: w = d * q."""

    d: NDArray[np.float16]  # [O, blocks]
    q: NDArray[np.int8]  # [O, blocks, 32]

    def values(self) -> NDArray[np.float32]:
        """The weights [O, I]."""
        wide = self.d.astype(np.float32)[..., None] * self.q.astype(np.float32)
        return wide.reshape(len(self.d), -1)


@dataclass(frozen=True, slots=True)
class KBlocks:
    """Rows in blocks of 256: w = (d * scale) * q - dmin * least."""

    d: NDArray[np.float16]  # [O, blocks]
    dmin: NDArray[np.float16]  # [O, blocks]
    scale: NDArray[np.int8]  # [O, blocks, sub-blocks]
    least: NDArray[np.int8]  # [O, blocks, sub-blocks]
    q: NDArray[np.int8]  # [O, blocks, 256]

    def values(self) -> NDArray[np.float32]:
        """The weights [O, I]."""
        factors = (self.d.astype(np.float32)[..., None] * self.scale.astype(np.float32))[..., None]
        least = (self.dmin.astype(np.float32)[..., None] * self.least.astype(np.float32))[..., None]
        rows, blocks, subblocks = self.scale.shape
        numbers = self.q.reshape(rows, blocks, subblocks, -1).astype(np.float32)
        return (factors * numbers - least).reshape(rows, -1)

    def in_subblocks_of_16(self) -> "KBlocks":
        """The same weights with 16 scales a block."""
        times = 16 // self.scale.shape[2]
        scale, least = (np.repeat(numbers, times, axis=2) for numbers in (self.scale, self.least))
        return KBlocks(self.d, self.dmin, scale, least, self.q)


Bytes: TypeAlias = NDArray[np.uint8]


def _half(raw: Bytes, at: int) -> NDArray[np.float16]:
    """The float16 numbers at a byte of each block [O, blocks, bytes]."""
    return np.ascontiguousarray(raw[..., at : at + 2]).view(np.float16).reshape(raw.shape[:-1])


def _nibbles(raw: Bytes) -> Bytes:
    """[…, n] bytes as […, 2, n] numbers: the lower halves, then the upper ones."""
    return cast(Bytes, np.stack([raw & 15, raw >> 4], axis=-2))


def _bits(raw: Bytes, width: int) -> Bytes:
    """[…, n] bytes as […, 8 / width, n] numbers of `width` bits, the lowest first."""
    shifts = np.arange(0, 8, width, dtype=np.uint8)[:, None]
    return cast(Bytes, (raw[..., None, :] >> shifts) & np.uint8((1 << width) - 1))


def _q8_0(raw: Bytes) -> SmallBlocks:
    return SmallBlocks(_half(raw, 0), raw[..., 2:].view(np.int8))


def _q4_0(raw: Bytes) -> SmallBlocks:
    q = _nibbles(raw[..., 2:]).reshape(*raw.shape[:2], SMALL_BLOCK)
    return SmallBlocks(_half(raw, 0), q.view(np.int8) - np.int8(8))


def _q5_0(raw: Bytes) -> SmallBlocks:
    high = np.unpackbits(raw[..., 2:6], axis=-1, bitorder="little")
    low = _nibbles(raw[..., 6:]).reshape(*raw.shape[:2], SMALL_BLOCK)
    return SmallBlocks(_half(raw, 0), (low | high << 4).view(np.int8) - np.int8(16))


def _iq4_nl(raw: Bytes) -> SmallBlocks:
    return SmallBlocks(_half(raw, 0), _IQ4_NL[_nibbles(raw[..., 2:]).reshape(*raw.shape[:2], SMALL_BLOCK)])


def _six_bits(raw: Bytes) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Scales and least values of 8 sub-blocks, in 12 bytes."""
    one, two, both = (raw[..., at : at + 4] for at in (0, 4, 8))
    scale = np.concatenate([one & 63, both & 15 | one >> 2 & 48], axis=-1)
    least = np.concatenate([two & 63, both >> 4 | two >> 2 & 48], axis=-1)
    return scale.view(np.int8), least.view(np.int8)


def _q4_k(raw: Bytes) -> KBlocks:
    scale, least = _six_bits(raw[..., 4:16])
    q = _nibbles(raw[..., 16:].reshape(*raw.shape[:2], 4, SMALL_BLOCK))
    return KBlocks(_half(raw, 0), _half(raw, 2), scale, least, q.reshape(*raw.shape[:2], K_BLOCK).view(np.int8))


def _q5_k(raw: Bytes) -> KBlocks:
    scale, least = _six_bits(raw[..., 4:16])
    high = _bits(raw[..., 16:48], 1).reshape(*raw.shape[:2], K_BLOCK)
    low = _nibbles(raw[..., 48:].reshape(*raw.shape[:2], 4, SMALL_BLOCK)).reshape(*raw.shape[:2], K_BLOCK)
    return KBlocks(_half(raw, 0), _half(raw, 2), scale, least, (low | high << 4).view(np.int8))


def _q6_k(raw: Bytes) -> KBlocks:
    low = _nibbles(raw[..., :128].reshape(*raw.shape[:2], 2, 64)).reshape(*raw.shape[:2], K_BLOCK)
    high = _bits(raw[..., 128:192].reshape(*raw.shape[:2], 2, SMALL_BLOCK), 2).reshape(*raw.shape[:2], K_BLOCK)
    scale = np.ascontiguousarray(raw[..., 192:208]).view(np.int8)
    return _without_least(_half(raw, 208), scale, (low | high << 4).view(np.int8) - np.int8(32))


def _q3_k(raw: Bytes) -> KBlocks:
    mask = _bits(raw[..., :32], 1).reshape(*raw.shape[:2], K_BLOCK)
    low = _bits(raw[..., 32:96].reshape(*raw.shape[:2], 2, SMALL_BLOCK), 2).reshape(*raw.shape[:2], K_BLOCK)
    scales = _nibbles(raw[..., 96:104]).reshape(*raw.shape[:2], 16)
    high = _bits(raw[..., 104:108], 2).reshape(*raw.shape[:2], 16)
    scale = (scales | high << 4).view(np.int8) - np.int8(32)
    return _without_least(_half(raw, 108), scale, low.view(np.int8) - ((mask ^ 1) << 2).view(np.int8))


def _q2_k(raw: Bytes) -> KBlocks:
    scales = raw[..., :16]
    q = _bits(raw[..., 16:80].reshape(*raw.shape[:2], 2, SMALL_BLOCK), 2).reshape(*raw.shape[:2], K_BLOCK)
    scale, least = (part.view(np.int8) for part in (scales & 15, scales >> 4))
    return KBlocks(_half(raw, 80), _half(raw, 82), scale, least, q.view(np.int8))


def _without_least(d: NDArray[np.float16], scale: NDArray[np.int8], q: NDArray[np.int8]) -> KBlocks:
    return KBlocks(d, np.zeros_like(d), scale, np.zeros_like(scale), q)


@dataclass(frozen=True, slots=True)
class _Layout:
    inputs: int  # of a block
    bytes: int
    take_apart: Callable[[Bytes], SmallBlocks | KBlocks]


_LAYOUTS: Final = {
    "Q8_0": _Layout(SMALL_BLOCK, 34, _q8_0),
    "Q4_0": _Layout(SMALL_BLOCK, 18, _q4_0),
    "Q5_0": _Layout(SMALL_BLOCK, 22, _q5_0),
    "IQ4_NL": _Layout(SMALL_BLOCK, 18, _iq4_nl),
    "Q2_K": _Layout(K_BLOCK, 84, _q2_k),
    "Q3_K": _Layout(K_BLOCK, 110, _q3_k),
    "Q4_K": _Layout(K_BLOCK, 144, _q4_k),
    "Q5_K": _Layout(K_BLOCK, 176, _q5_k),
    "Q6_K": _Layout(K_BLOCK, 210, _q6_k),
}
KINDS = frozenset(_LAYOUTS)
K_KINDS = frozenset(name for name, layout in _LAYOUTS.items() if layout.inputs == K_BLOCK)


def row_bytes(kind: str, inputs: int) -> int:
    """The bytes of a row of so many inputs, which are whole blocks."""
    layout = _LAYOUTS[kind]
    return inputs // layout.inputs * layout.bytes


def block_inputs(kind: str) -> int:
    """The inputs of a block."""
    return _LAYOUTS[kind].inputs


def take_apart(kind: str, rows: Bytes) -> SmallBlocks | KBlocks:
    """Rows of blocks [O, bytes] in their parts."""
    layout = _LAYOUTS[kind]
    return layout.take_apart(rows.reshape(len(rows), -1, layout.bytes))
