"""Rotary embedding: how fast the values of a head turn, and by what angles.

Angles are float32, as transformers has them; their cosines and sines are computed in float64 and rounded once, so that
they are the same on every machine.
Source of the formulas: RoFormer (arXiv:2104.09864); Llama 3.1's scaling as in transformers' modeling_rope_utils.py.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy
from numpy.typing import NDArray

from tunesmith.jsonvalue import JsonObject, JsonValue

POSITIONS = 1024  # whose cosines and sines are computed at first


@dataclass(frozen=True, slots=True, eq=False)
class Frequencies:
    """How a family turns the values of a head."""

    rates: NDArray[numpy.float32]  # [head size / 2], radians per position
    scaling: float = 1.0  # of cosines and sines


Lengths: TypeAlias = Sequence[tuple[int, int]]
"""Of each sequence of a step: its number of positions there, and the position behind its last."""
Table: TypeAlias = NDArray[numpy.float32]


class Angles(Protocol):
    """The cosines and sines of positions."""

    @property
    def border(self) -> int | None:
        """Sequences longer than this have other angles; None: there are none such."""
        ...

    def of(self, positions: NDArray[numpy.int64], lengths: Lengths) -> tuple[Table, Table]:
        """The cosines and the sines of the positions of a step.

        Each [kinds of layers, positions, rotated numbers].
        """
        ...


class Rotation:
    """The angles of known rates, the same in all layers and at every length."""

    border = None

    def __init__(self, frequencies: Frequencies) -> None:
        self._frequencies = frequencies
        self._cos = self._sin = numpy.empty((0, 0), numpy.float32)

    def of(self, positions: NDArray[numpy.int64], lengths: Lengths) -> tuple[Table, Table]:
        """As `Angles` has it; of one kind."""
        end = max(stop for _, stop in lengths)
        if end > len(self._cos):
            self._cos, self._sin = self._table(max(POSITIONS, 2 * end))
        return self._cos[positions][None], self._sin[positions][None]

    def _table(self, count: int) -> tuple[Table, Table]:
        rates, scaling = self._frequencies.rates, numpy.float32(self._frequencies.scaling)
        angles = (numpy.arange(count, dtype=numpy.float32)[:, None] * rates).astype(numpy.float64)
        halves = (numpy.cos(angles).astype(numpy.float32), numpy.sin(angles).astype(numpy.float32))
        cos, sin = (numpy.concatenate([half * scaling] * 2, axis=1) for half in halves)
        return cos, sin


def frequencies(config: JsonObject, head: int) -> Frequencies | None:
    """What a config says in so many words; None where transformers has to be asked."""
    rope = _parameters(config)
    theta, kind = rope.get("rope_theta"), rope.get("rope_type", rope.get("type", "default"))
    if not isinstance(theta, int | float) or theta <= 0 or head <= 0 or head % 2 or "partial_rotary_factor" in rope:
        return None
    powers = numpy.arange(0, head, 2, dtype=numpy.float32) / numpy.float32(head)
    rates = numpy.float32(1) / numpy.power(numpy.float64(theta), powers.astype(numpy.float64)).astype(numpy.float32)
    if kind == "default":
        return Frequencies(rates)
    if kind == "linear":
        factor = _number(rope, "factor")
        return Frequencies(rates / numpy.float32(factor)) if factor else None
    return _llama3(rates, rope) if kind == "llama3" else None


def _parameters(config: JsonObject) -> Mapping[str, JsonValue]:
    """Of either form: `rope_parameters`, or the older `rope_theta` with `rope_scaling`."""
    given = config.get("rope_parameters")
    if isinstance(given, dict):
        return given
    scaling = config.get("rope_scaling") or {}
    if not isinstance(scaling, dict):
        return {}
    return {"rope_theta": config.get("rope_theta"), **scaling}


def _llama3(rates: NDArray[numpy.float32], rope: Mapping[str, JsonValue]) -> Frequencies | None:
    names = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    values = [_number(rope, name) for name in names]
    if not all(values) or values[1] == values[2]:
        return None
    factor, low, high, length = (numpy.float32(value) for value in values)
    waves = numpy.float32(2 * math.pi) / rates
    slow = numpy.where(waves > length / low, rates / factor, rates)
    smooth = (length / waves - low) / (high - low)
    smoothed = (1 - smooth) * slow / factor + smooth * slow
    between = ~(waves < length / high) & ~(waves > length / low)
    return Frequencies(numpy.where(between, smoothed, slow).astype(numpy.float32))


def _number(rope: Mapping[str, JsonValue], name: str) -> float:
    value = rope.get(name)
    return float(value) if isinstance(value, int | float) and value > 0 else 0.0
