"""Kernels beside numpy in float64: a table of cases, and what they are made of.

A case is a function of a size that calls a kernel and gives pairs of arrays, what the kernel computed and what numpy
says. `@reference(kernel)` enters it in the table; `test_references.py` runs every case at every size and fails for a
kernel without one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy
from numpy.typing import NDArray

from tunesmith.kernels.records import new_counters
from tunesmith.kernels.vectors import HAS_HALF, LANES, QUANTISED, Number

Floats: TypeAlias = NDArray[Any]  # float64, float32, float16 or, for places and counts, int64
Pairs: TypeAlias = Sequence[tuple[Floats, Floats]]
SIZES = (1, LANES - 1, LANES + 1, 3 * LANES + 5)
EVEN_SIZES = (2, LANES - 2, LANES + 2, 3 * LANES + 6)
EVEN_REASON = "a head has two halves of the same size"
EPS = 1e-5


@dataclass(frozen=True, slots=True)
class Case:
    """How a kernel is compared with numpy, and at which sizes; `reason` says why not at SIZES."""

    run: Callable[[int], Pairs]
    sizes: tuple[int, ...]
    reason: str
    tolerance: float


CASES: dict[Any, Case] = {}


def reference(
    *kernels: object, sizes: tuple[int, ...] = SIZES, reason: str = "", tolerance: float = 2e-5
) -> Callable[[Callable[[int], Pairs]], Callable[[int], Pairs]]:
    """Enters a case for kernels. Errors are relative to the largest number of each expected array."""

    def enter(run: Callable[[int], Pairs]) -> Callable[[int], Pairs]:
        for kernel in kernels:
            assert kernel not in CASES
            CASES[kernel] = Case(run, sizes, reason, tolerance)
        return run

    return enter


class Record:
    """A record for compiled code, with the arrays that its fields point to."""

    def __init__(self, of: numpy.dtype[numpy.void], **fields: float | Floats) -> None:
        self.rows = numpy.zeros(1, of)
        self.arrays: dict[str, Floats] = {}
        self.set(**fields)

    def set(self, **fields: float | Floats) -> None:
        for name, value in fields.items():
            if isinstance(value, numpy.ndarray):
                assert value.flags.c_contiguous
                assert value.dtype in (numpy.float32, numpy.float16, numpy.uint16, numpy.uint8, numpy.int64)
                self.arrays[name] = value
                self.rows[name] = value.ctypes.data
            else:
                self.rows[name] = value

    def __getitem__(self, name: str) -> Floats:
        return self.arrays[name]

    @property
    def one(self) -> Any:
        """What a kernel takes: one record and not an array of them. The kernel's annotation says of which kind."""
        return self.rows[0]


def records(*rows: Record) -> NDArray[numpy.void]:
    """An array of records, whose own arrays the caller keeps."""
    return numpy.concatenate([row.rows for row in rows])


_counters: list[NDArray[numpy.int64]] = []


def counter() -> int:
    """The address of a counter of pieces of work that is 0."""
    _counters[:] = [*_counters[-8:], new_counters(1)]
    return _counters[-1].ctypes.data


def normal(random: numpy.random.Generator, *shape: int) -> Floats:
    """Random float32 numbers."""
    return random.standard_normal(shape, dtype=numpy.float32)


def wide(array: Floats) -> Floats:
    """In float64, as numpy's side computes; uint16 are the first halves of float32 numbers."""
    if array.dtype == numpy.uint16:
        array = (array.astype(numpy.uint32) << 16).view(numpy.float32)
    return array.astype(numpy.float64)


KINDS = [kind for kind in Number if kind < QUANTISED and (kind != Number.FLOAT16 or HAS_HALF)]
"""Formats of single numbers that this processor reads; `tests.kernels.blocks` has the others."""


def stored(array: Floats, kind: int) -> Floats:
    """Numbers as a matrix of this format has them; bfloat16, which numpy lacks, as uint16, cut off and not rounded."""
    if kind == Number.BFLOAT16:
        return (numpy.ascontiguousarray(array).view(numpy.uint32) >> 16).astype(numpy.uint16)
    return array.astype(numpy.float16 if kind == Number.FLOAT16 else numpy.float32)


def whole(count: int) -> int:
    """The next multiple of LANES."""
    return -(-count // LANES) * LANES


def to_panels(weight_OI: Floats) -> Floats:
    """[O, I] -> [panels, I, 16], padded with zeros."""
    outs, ins = weight_OI.shape
    padded = numpy.zeros((whole(outs), ins), weight_OI.dtype)
    padded[:outs] = weight_OI
    return numpy.ascontiguousarray(padded.reshape(-1, LANES, ins).transpose(0, 2, 1))


def gradient(function: Callable[[Floats], Floats], x: Floats, grad: Floats) -> Floats:
    """The gradient of sum(function(x) * grad) by x, from central differences in float64."""
    x, result, step = wide(x), numpy.zeros(x.shape), 1e-6
    for index in numpy.ndindex(x.shape):
        there, back = x.copy(), x.copy()
        there[index] += step
        back[index] -= step
        result[index] = ((function(there) - function(back)) * grad).sum() / (2 * step)
    return result


def rms_norm(x: Floats, weight: Floats) -> Floats:
    """Of the last dimension."""
    result: Floats = x / numpy.sqrt((x * x).mean(-1, keepdims=True) + EPS) * weight
    return result


def silu(x: Floats) -> Floats:
    result: Floats = x / (1 + numpy.exp(-x))
    return result


def gelu(x: Floats) -> Floats:
    """With tanh in place of erf."""
    result: Floats = 0.5 * x * (1 + numpy.tanh((2 / numpy.pi) ** 0.5 * (x + 0.044715 * x**3)))
    return result


def capped(x: Floats, cap: float) -> Floats:
    result: Floats = cap * numpy.tanh(x / cap)
    return result


def rotated(x: Floats, cos: Floats, sin: Floats) -> Floats:
    """Rotary embedding of the last dimension, as transformers computes it."""
    half = x.shape[-1] // 2
    result: Floats = x * cos + numpy.concatenate([-x[..., half:], x[..., :half]], -1) * sin
    return result


def rotated_neighbours(x: Floats, cos: Floats, sin: Floats) -> Floats:
    """The same for numbers 2i and 2i + 1, by the angles of the first half."""
    half = x.shape[-1] // 2
    cos, sin = cos[..., :half], sin[..., :half]
    low, high = x[..., ::2], x[..., 1::2]
    turned = numpy.stack([low * cos - high * sin, high * cos + low * sin], -1)
    result: Floats = turned.reshape(x.shape)
    return result


def softmax(scores: Floats) -> Floats:
    weights: Floats = numpy.exp(scores - scores.max(-1, keepdims=True))
    result: Floats = weights / weights.sum(-1, keepdims=True)
    return result


def angles(positions: Floats, head_size: int) -> tuple[Floats, Floats]:
    """Cosines and sines [rows, head_size] in float32."""
    rates = 100.0 ** -(numpy.arange(head_size // 2) / (head_size // 2))
    turns = numpy.concatenate([positions[:, None] * rates] * 2, 1)
    return numpy.cos(turns).astype(numpy.float32), numpy.sin(turns).astype(numpy.float32)
