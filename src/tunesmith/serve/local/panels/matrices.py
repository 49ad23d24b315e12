"""A base's linear layers in panels: as stored, rounded, or a GGUF file's blocks."""

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy
from numpy import float32
from numpy.typing import NDArray

from tunesmith.families.array_panels import (
    Weights,
    Width,
    kind_of,
    narrowest,
    pack_bias,
    packing,
    panel_bytes,
    take_panels,
)
from tunesmith.families.blocks import panels as blocks
from tunesmith.kernels.vectors import Number
from tunesmith.serve.giving_way import give_way
from tunesmith.serve.local.base_weights import BaseWeights
from tunesmith.serve.local.panels.lora import Part
from tunesmith.system.cpu import cpu_count
from tunesmith.system.pages import ArraySlab, fresh_slab, is_of_file, release_pages, slab_bytes

HEAD = "lm_head"
HEAD_WIDTHS: dict[Width, Width] = {"int4": "int8"}  # the output layer decides between near tokens: it keeps 8 bits


@dataclass(frozen=True, slots=True, eq=False)
class PanelMatrix:
    """Linears that read the same input."""

    weight: Weights  # panels
    kind: Number  # the format of their numbers
    inputs: int
    bias: NDArray[float32] | None
    parts: tuple[Part, ...]


def pack_matrices(base: BaseWeights, width: Width) -> list[PanelMatrix]:
    """Of all layers, LAYER_MATRICES each, and the output layer's."""
    head = (Part(HEAD, (len(base.weight(HEAD)),)),)
    forms = [_form(base, parts, width) for parts in base.parts]
    forms.append(_form(base, head, HEAD_WIDTHS.get(width, width)))
    slab = fresh_slab(sum(form.bytes for form in forms))
    matrices = [_matrix(base, parts, form, slab) for parts, form in zip([*base.parts, head], forms, strict=True)]
    embedding = base.weight("model.embed_tokens")  # may be the output layer's too, and is read by its rows
    kept = None if is_of_file(embedding) else embedding
    _run(work for form, matrix in zip(forms, matrices, strict=True) for work in form.packing(matrix.weight, kept))
    return matrices


@dataclass(frozen=True, slots=True)
class _Numbers:
    """Linears whose weights are packed, perhaps rounded."""

    weights: Sequence[Weights]
    width: Width

    @property
    def kind(self) -> Number:
        return kind_of(self.width)

    @property
    def inputs(self) -> int:
        return int(self.weights[0].shape[1])

    @property
    def bytes(self) -> int:
        return panel_bytes(self.weights, self.width)

    def take(self, slab: ArraySlab) -> Weights:
        return take_panels(self.weights, self.width, slab)

    def packing(self, panels: Weights, kept: Weights | None) -> list[Callable[[], None]]:
        """What fills the panels; the pages of `kept`, which no file has, are not given back."""
        pieces = packing(self.weights, panels, self.width)
        return [
            partial(_pack, work, rows, release=kept is None or not numpy.may_share_memory(rows, kept))
            for work, rows in pieces
        ]


@dataclass(frozen=True, slots=True)
class _Blocks:
    """Linears whose quantised blocks are packed as they are."""

    pieces: Sequence[blocks.Piece]
    kind: Number
    inputs: int

    @property
    def bytes(self) -> int:
        return slab_bytes(math.prod(blocks.panels_shape(self.pieces, self.kind, self.inputs)))

    def take(self, slab: ArraySlab) -> Weights:
        return cast(Weights, slab.take(blocks.panels_shape(self.pieces, self.kind, self.inputs), numpy.dtype("uint8")))

    def packing(self, panels: Weights, _: Weights | None) -> list[Callable[[], None]]:
        """What fills the panels."""
        return [*blocks.packing(self.pieces, self.kind, cast(NDArray[numpy.uint8], panels))]


def _form(base: BaseWeights, parts: tuple[Part, ...], width: Width) -> _Numbers | _Blocks:
    """How linears that read the same input are packed."""
    kind = base.block_format(parts)
    if kind is None:
        weights = [piece for part in parts for piece in part.pieces(base.weight(part.path))]
        return _Numbers(weights, narrowest(weights[0].shape[1], width, base.stored()))
    pieces = list[blocks.Piece]()
    for part in parts:
        matrix = base.block_matrix(part.path)
        if matrix is not None:
            outputs = part.pieces(cast(Weights, numpy.arange(len(matrix.rows))))  # as they would be of the weights
            pieces += [(matrix, cast(NDArray[numpy.int64], some)) for some in outputs]
    return _Blocks(pieces, kind, base.sizes[parts[0].path][1])


def _matrix(base: BaseWeights, parts: tuple[Part, ...], form: _Numbers | _Blocks, slab: ArraySlab) -> PanelMatrix:
    biases = [(part, base.bias(part.path)) for part in parts]
    pieces = [piece for part, bias in biases if bias is not None for piece in part.pieces(bias)]
    return PanelMatrix(form.take(slab), form.kind, form.inputs, pack_bias(pieces) if pieces else None, parts)


def _pack(work: Callable[[], None], rows: Weights, *, release: bool) -> None:
    """Packs a piece, and gives its weights' memory back so that the base is not in memory twice."""
    work()
    if release:
        release_pages(rows)


def _run(work: Iterable[Callable[[], None]]) -> None:
    with ThreadPoolExecutor(cpu_count(), thread_name_prefix="tunesmith-packing") as pool:
        pieces = [pool.submit(one) for one in work]
        try:
            for piece in pieces:
                give_way()
                piece.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # leaving the pool waits for those that have begun
            raise
