"""The Llama family on a CPU, with each step a single call of compiled code.

The differences: the new tokens of all sequences go through the linear layers as one matrix, however many each sequence
has; linear layers with the same input are one matrix too; keys and values are written in place; adapters, of any rank,
are applied beside the base and not merged. Logits differ from transformers' only by the order of sums, and are the same
to the bit whatever else is in the batch. Neither torch nor transformers is imported.

What is not covered: sliding windows, mixtures of experts, other activations than SiLU, rotary embeddings that depend on
the length (`families.table` says which and why); `runner.TransformersRunner` takes them.
"""

import weakref
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy
from numpy import float32
from numpy.typing import NDArray

from tunesmith.families.array_panels import (
    Weights,
    Width,
    pack_bias,
    packing,
    panel_bytes,
    take_panels,
    whole_panels,
    widen,
    widen_rows,
)
from tunesmith.families.layout import HEAD_NORMS, LAYER_NORMS, layer_path, shared_inputs
from tunesmith.families.rotation import Rotation
from tunesmith.families.served_shape import ServedShape
from tunesmith.kernels.records import Records
from tunesmith.kernels.serving.step import serving_step
from tunesmith.kernels.serving.step_args import LAYER, MATRIX, STEP_ARGS, phases
from tunesmith.kernels.thread_pool import MOST_THREADS, ThreadPool
from tunesmith.kernels.vectors import FLOAT_BYTES, LANES, PANEL_ROW_BYTES
from tunesmith.serve.engine.model import SequenceChunk
from tunesmith.serve.local.adapter_panels import PanelAdapter, pack_adapter
from tunesmith.serve.local.adapters import check_fit, read_adapter
from tunesmith.serve.local.base_weights import BaseWeights
from tunesmith.serve.local.kv_cache import KeyValues
from tunesmith.serve.local.runner import AnyAdapter
from tunesmith.serve.local.step import Steps
from tunesmith.system.cpu import cpu_count
from tunesmith.system.pages import SpareSlab, fresh_slab, release_pages

HEAD = ("lm_head",)


@dataclass(frozen=True, slots=True, eq=False)
class _Line:
    """Linears that read the same input. Module paths name the parts, for adapters."""

    weight: Weights  # panels
    bias: NDArray[float32] | None
    parts: tuple[str, ...]
    sizes: tuple[int, ...]


class CompiledRunner:
    """A `Runner` of compiled code, over panels that it packs of a base's weights."""

    rewinds = True

    def __init__(self, base: BaseWeights, width: Width = "float32") -> None:
        shape = base.shape
        self.context_length = shape.context
        self.token_bytes = 2 * shape.layers * shape.kv_heads * shape.head * FLOAT_BYTES
        self._vocabulary = shape.vocabulary
        self._sizes = shape.linears()
        self._rotation = Rotation(shape.frequencies)
        self._lines = _lines(base, width)
        self._embedding = widen_rows(base.weight("model.embed_tokens"), cpu_count())
        self._norms = [_norms(base, index) for index in range(shape.layers)]
        self._final_norm = widen(base.weight("model.norm"))
        self._cache = KeyValues(shape.layers, shape.kv_heads, shape.head)
        self._step_args, self._layer_table, self._matrix_table = _tables(self._lines, self._norms)
        self._describe(shape, width)
        self._steps = Steps(self._step_args, phases(shape.layers))
        self._spare = SpareSlab()
        self._pool = self._start_pool()

    def read_adapter(self, directory: Path) -> PanelAdapter:
        """The adapter in panels. Raises ServerFault if it does not fit the base."""
        adapter = read_adapter(directory)
        check_fit(adapter, self._sizes, directory)
        lows = [[adapter.layers.get(part) for part in line.parts] for line in self._lines]
        return pack_adapter(lows, [line.sizes for line in self._lines], self._spare)

    def forward(self, chunks: Sequence[SequenceChunk[AnyAdapter]], threads: int = 1) -> NDArray[float32]:
        """The requested logits [sum of `logits`, V] in float32, in the chunks' order."""
        for chunk in chunks:
            if self._cache.hold(chunk.slot, chunk.start + len(chunk.ids)):
                self._point_at_cache()
        threads = self._pool.gather(threads)
        logits = self._steps.fill(chunks, self._rotation, threads)
        serving_step(0, threads, self._step_args, self._layer_table, self._matrix_table)
        return logits[:, : self._vocabulary]

    def copy(self, source: int, target: int, length: int) -> None:
        """Copies the first `length` positions of one slot to another."""
        if self._cache.copy(source, target, length):
            self._point_at_cache()

    def clear(self, slot: int) -> None:
        """Empties a slot."""
        self._cache.clear(slot)

    def _start_pool(self) -> ThreadPool:
        """Starts the threads, which end with the runner: nothing they run may refer to it."""
        args, layers, matrices = self._step_args, self._layer_table, self._matrix_table
        pool = ThreadPool(MOST_THREADS, lambda thread: serving_step(thread, 0, args, layers, matrices))
        self._step_args["pool"] = pool.address
        weakref.finalize(self, pool.close)
        return pool

    def _describe(self, shape: ServedShape, width: Width) -> None:
        """Fills in what stays the same from step to step."""
        queries, keys = whole_panels(shape.heads * shape.head), whole_panels(shape.kv_heads * shape.head)
        fields = {
            "half": width == "float16",
            "layers": shape.layers,
            "hidden": shape.hidden,
            "hidden_stride": whole_panels(shape.hidden) * PANEL_ROW_BYTES,
            "heads": shape.heads,
            "kv_heads": shape.kv_heads,
            "head_size": shape.head,
            "head_panels": whole_panels(shape.head),
            "qkv_stride": (queries + 2 * keys) * PANEL_ROW_BYTES,
            "key_column": queries * LANES,
            "value_column": (queries + keys) * LANES,
            "inner_panels": whole_panels(shape.inner),
            "embedding": self._embedding.ctypes.data,
            "final_norm": self._final_norm.ctypes.data,
            "eps": shape.eps,
            "logits_stride": whole_panels(self._vocabulary) * PANEL_ROW_BYTES,
        }
        for name, value in fields.items():
            self._step_args[name] = value

    def _point_at_cache(self) -> None:
        self._step_args["capacity"] = self._cache.room
        self._layer_table["keys"] = [array.ctypes.data for array in self._cache.keys]
        self._layer_table["values"] = [array.ctypes.data for array in self._cache.values]


def _tables(lines: Sequence[_Line], norms: Sequence[dict[str, NDArray[float32]]]) -> tuple[Records, Records, Records]:
    """Empty arguments of a step, the layers without keys and values, the matrices.

    They point into `lines` and `norms`, which the runner keeps.
    """
    layer_table, matrix_table = numpy.zeros(len(norms), LAYER), numpy.zeros(len(lines), MATRIX)
    for row, of_layer in zip(layer_table, norms, strict=True):
        for name, norm in of_layer.items():
            row[name] = norm.ctypes.data
    for row, line in zip(matrix_table, lines, strict=True):
        panels, length, _ = line.weight.shape
        row["weight"], row["length"], row["panels"] = line.weight.ctypes.data, length, panels
        row["bias"] = 0 if line.bias is None else line.bias.ctypes.data
        row["panel_stride"] = length * LANES * line.weight.itemsize
    return numpy.zeros(1, STEP_ARGS), layer_table, matrix_table


def _lines(base: BaseWeights, width: Width) -> list[_Line]:
    """Of all layers, LAYER_MATRICES each, and the output layer's."""
    groups = [*(parts for index in range(base.shape.layers) for parts in shared_inputs(index)), HEAD]
    weights = [[base.weight(part) for part in parts] for parts in groups]
    slab = fresh_slab(sum(panel_bytes(parts, width) for parts in weights))
    lines = [
        _line(base, parts, take_panels(of_line, width, slab)) for parts, of_line in zip(groups, weights, strict=True)
    ]
    _run(work for of_line, line in zip(weights, lines, strict=True) for work in _packing(of_line, line))
    return lines


def _line(base: BaseWeights, parts: tuple[str, ...], panels: Weights) -> _Line:
    biases = [bias for part in parts if (bias := base.bias(part)) is not None]
    return _Line(
        weight=panels,
        bias=pack_bias(biases) if biases else None,
        parts=parts,
        sizes=tuple(len(base.weight(part)) for part in parts),
    )


def _packing(weights: Sequence[Weights], line: _Line) -> list[Callable[[], None]]:
    """What packs a line, and gives its weights' memory back so that the base is not in memory twice."""
    return [partial(_pack, work, rows, release=line.parts != HEAD) for work, rows in packing(weights, line.weight)]


def _pack(work: Callable[[], None], rows: Weights, *, release: bool) -> None:
    work()
    if release:  # the output layer may be the embedding too, which stays
        release_pages(rows)


def _run(work: Iterable[Callable[[], None]]) -> None:
    with ThreadPoolExecutor(cpu_count(), thread_name_prefix="tunesmith-packing") as pool:
        for done in [pool.submit(one) for one in work]:
            done.result()


def _norms(base: BaseWeights, index: int) -> dict[str, NDArray[float32]]:
    paths = {field: f"{layer_path(index)}.{name}" for field, name in (LAYER_NORMS | HEAD_NORMS).items()}
    return {field: widen(base.weight(path)) for field, path in paths.items() if f"{path}.weight" in base.tensors}
