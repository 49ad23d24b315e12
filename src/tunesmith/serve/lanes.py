"""The low-rank products of many adapters in one batch.

Tokens of one adapter are two products, for however many tokens. Where a batch mixes adapters, each with a token or a
few, that would be dozens of tiny products a layer: instead the adapters' matrices stand in lanes, one above the other,
and one batched product multiplies each adapter's tokens with its lane. A lane stays filled while its adapter is not
displaced, since the next step mostly mixes the same ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from tunesmith.serve.lora import LowRank

ENOUGH_TOKENS = 16  # of one adapter: from here on products of their own are faster
ENOUGH_SPANS = 3  # up to two are faster one after the other


@dataclass(frozen=True, slots=True)
class FusedLow:
    """The updates of linears that read the same input, which stand side by side: `x @ a` is made once for all."""

    a: Tensor  # [in, sum of ranks]
    bs: tuple[Tensor, ...]  # each [rank, out]
    places: tuple[tuple[slice, slice], ...]  # of each: its columns of `x @ a`, its columns of the output

    @property
    def nbytes(self) -> int:
        return self.a.nbytes + sum(b.nbytes for b in self.bs)

    def add(self, inputs: Tensor, output: Tensor) -> None:
        low = torch.mm(inputs, self.a)
        for b, (ranks, columns) in zip(self.bs, self.places, strict=True):
            output[:, columns].addmm_(low[:, ranks], b)


class FusedAdapter:
    def __init__(self, layers: dict[str, FusedLow]) -> None:
        self.layers = layers  # by the first of the linears
        self.nbytes = sum(low.nbytes for low in layers.values())

    @cached_property
    def shape(self) -> tuple[tuple[str, tuple[tuple[slice, slice], ...]], ...]:
        """Adapters of one shape can stand in lanes together."""
        return tuple((key, low.places) for key, low in sorted(self.layers.items()))


Part = tuple[slice, FusedAdapter | None]


def fuse(lows: Sequence[LowRank | None], sizes: Sequence[int]) -> FusedLow:
    """`lows`: the update of each linear, None where it has none; `sizes`: the linears' outputs."""
    places, rank, column = [], 0, 0
    for low, size in zip(lows, sizes, strict=True):
        if low is not None:
            places.append((slice(rank, rank + low.a.shape[0]), slice(column, column + size)))
            rank += low.a.shape[0]
        column += size
    known = [low for low in lows if low is not None]
    a = torch.cat([low.a for low in known]).t().contiguous()
    return FusedLow(a, tuple(low.b.t().contiguous() for low in known), tuple(places))


@dataclass(frozen=True, slots=True)
class Mix:
    """The updates of one batch: products for spans of tokens, and lanes for all other tokens."""

    spans: "tuple[tuple[slice, FusedAdapter], ...]"
    lanes: "dict[str, _Lane] | None" = None
    tokens: Tensor | None = None  # [lanes, tokens of each], their rows in the batch; a lane with fewer repeats one
    real: Tensor | None = None  # which of these, flattened, are no repetition; None: all
    in_order: bool = False  # the batch is these tokens and nothing else

    def add(self, key: str, inputs: Tensor, output: Tensor) -> Tensor:
        """Adds to `output` what the tokens' adapters make of `inputs` in the linears of `key`; in place."""
        for span, adapter in self.spans:
            low = adapter.layers.get(key)
            if low is not None:
                low.add(inputs[span], output[span])
        lane = self.lanes.get(key) if self.lanes is not None else None
        if lane is None or self.tokens is None:
            return output
        if self.in_order:
            lane.add(inputs.unsqueeze(1), output.unsqueeze(1))
            return output
        update = output.new_zeros(*self.tokens.shape, output.shape[1])
        lane.add(inputs[self.tokens], update)
        rows, update = self.tokens.flatten(), update.flatten(0, 1)
        if self.real is not None:
            rows, update = rows[self.real], update[self.real]
        return output.index_add_(0, rows, update)


@dataclass(frozen=True, slots=True)
class _Lane:
    """`FusedLow` of several adapters, stacked."""

    a: Tensor  # [lanes, in, sum of ranks]
    bs: tuple[Tensor, ...]  # each [lanes, rank, out]
    places: tuple[tuple[slice, slice], ...]

    def put(self, lane: int, low: FusedLow) -> None:
        self.a[lane] = low.a
        for stack, b in zip(self.bs, low.bs, strict=True):
            stack[lane] = b

    def add(self, inputs: Tensor, output: Tensor) -> None:
        """inputs [lanes, tokens, in], output [lanes, tokens, out], of the first lanes."""
        count = len(inputs)
        low = torch.bmm(inputs, self.a[:count])
        for b, (ranks, columns) in zip(self.bs, self.places, strict=True):
            output[:, :, columns] += torch.bmm(low[:, :, ranks], b[:count])  # baddbmm_ into columns is a loop


class Lanes:
    """The lanes of a base. They grow to as many adapters as were ever mixed in one step."""

    def __init__(self) -> None:
        self._adapters: list[FusedAdapter] = []
        self._lanes: dict[str, _Lane] = {}
        self._room = 0

    def mix(self, parts: Sequence[Part]) -> Mix:
        """`parts`: every token's adapter, by spans. Adapters of unlike shape take products of their own."""
        spans = _joined(parts)
        shape = max((adapter.shape for _, adapter in spans), key=[a.shape for _, a in spans].count, default=())
        laned = [span for span in spans if _length(span) < ENOUGH_TOKENS and span[1].shape == shape]
        rows: dict[FusedAdapter, list[int]] = {}
        for span, adapter in laned:
            rows.setdefault(adapter, []).extend(range(span.start, span.stop))
        if len(laned) < ENOUGH_SPANS:
            return Mix(spans)
        self._hold([*rows])
        return self._mix(tuple(span for span in spans if span not in laned), rows, parts[-1][0].stop)

    def _mix(
        self, spans: tuple[tuple[slice, FusedAdapter], ...], rows: dict[FusedAdapter, list[int]], batch: int
    ) -> Mix:
        last = max(place for place, adapter in enumerate(self._adapters) if adapter in rows)
        of_lanes = [rows.get(adapter, []) for adapter in self._adapters[: last + 1]]
        longest = max(map(len, of_lanes))
        padded = [[*own, *[0] * (longest - len(own))] for own in of_lanes]
        if [row for own in padded for row in own] == [*range(batch)] and longest == 1:
            return Mix(spans, self._lanes, torch.tensor(padded), in_order=True)
        real = [lane * longest + place for lane, own in enumerate(of_lanes) for place in range(len(own))]
        whole = len(real) == longest * len(of_lanes)
        return Mix(spans, self._lanes, torch.tensor(padded), None if whole else torch.tensor(real))

    def _hold(self, wanted: list[FusedAdapter]) -> None:
        """Every wanted adapter in a lane; those that are not wanted any more are displaced first."""
        if self._adapters and self._adapters[0].shape != wanted[0].shape:
            self._adapters, self._room = [], 0
        missing = [adapter for adapter in wanted if adapter not in self._adapters]
        if len(wanted) > self._room:
            missing, self._adapters = wanted, []
            self._room = max(2 * self._room, len(wanted))
            self._lanes = {key: _empty_lane(low, self._room) for key, low in wanted[0].layers.items()}
        idle = [place for place, adapter in enumerate(self._adapters) if adapter not in wanted]
        for adapter in missing:
            if len(self._adapters) < self._room:
                place = len(self._adapters)
                self._adapters.append(adapter)
            else:
                place = idle.pop(0)
                self._adapters[place] = adapter
            for key, low in adapter.layers.items():
                self._lanes[key].put(place, low)


def _length(span: tuple[slice, FusedAdapter]) -> int:
    rows = span[0]
    return int(rows.stop - rows.start)


def _joined(parts: Sequence[Part]) -> tuple[tuple[slice, FusedAdapter], ...]:
    """Neighbours of the same adapter as one span; those without one are left out."""
    spans: list[tuple[slice, FusedAdapter]] = []
    for span, adapter in parts:
        if adapter is None:
            continue
        if spans and spans[-1][1] is adapter and spans[-1][0].stop == span.start:
            spans[-1] = (slice(spans[-1][0].start, span.stop), adapter)
        else:
            spans.append((span, adapter))
    return tuple(spans)


def _empty_lane(low: FusedLow, room: int) -> _Lane:
    bs = tuple(b.new_empty(room, *b.shape) for b in low.bs)
    return _Lane(low.a.new_empty(room, *low.a.shape), bs, low.places)
