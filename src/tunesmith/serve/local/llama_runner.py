"""Llama and its relatives on a CPU, with each step a single call of compiled code.

The differences: the new tokens of all sequences go through the linear layers as one matrix, however many each sequence
has; linear layers with the same input are one matrix too; keys and values are written in place; adapters, of any rank,
are applied beside the base and not merged. Logits differ from transformers' only by the order of sums, and are the same
to the bit whatever else is in the batch. Neither torch nor transformers is imported.

What families do otherwise than Llama is data (`families.formulas`). What is not covered: mixtures of experts, MLPs
without a gate, norms that subtract the mean, rotary embeddings that change with every length (`families.table` says
which and why); `supports` says no to them and `runner.TransformersRunner` takes them.
"""

import weakref
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy
from numpy import float32
from numpy.typing import NDArray

from tunesmith.families.array_panels import KINDS, Weights, Width, whole_panels, widen, widen_rows
from tunesmith.families.formulas import Formulas
from tunesmith.families.served_shape import ServedShape
from tunesmith.kernels.dots.unit import WHOLE, DotUnit
from tunesmith.kernels.records import LAYER_MATRICES, Records
from tunesmith.kernels.serving.step import serving_step
from tunesmith.kernels.serving.step_args import LAYER, MATRIX, STEP_ARGS, phases
from tunesmith.kernels.thread_pool import MOST_THREADS, ThreadPool
from tunesmith.kernels.vectors import FLOAT_BYTES, HAS_HALF, LANES, PANEL_ROW_BYTES, QUANTISED, Number
from tunesmith.serve.engine.model import SequenceChunk
from tunesmith.serve.local.adapters import check_fit, read_adapter
from tunesmith.serve.local.base_weights import BaseWeights
from tunesmith.serve.local.kv_cache import KeyValues
from tunesmith.serve.local.panels.lora import PanelAdapter, pack_adapter
from tunesmith.serve.local.panels.matrices import PanelMatrix, pack_matrices
from tunesmith.serve.local.rereading import Rereading
from tunesmith.serve.local.runner import AnyAdapter
from tunesmith.serve.local.step import Steps
from tunesmith.system.cpu import cpu_count
from tunesmith.system.pages import SpareSlab, evict_pages


class CompiledRunner:
    """A `Runner` of compiled code, over panels that it packs of a base's weights."""

    rewinds = True

    def __init__(self, base: BaseWeights, width: Width = "float32") -> None:
        shape = base.shape
        self.context_length = shape.context
        self.token_bytes = 2 * shape.layers * shape.kv_heads * shape.head * FLOAT_BYTES
        self.vocabulary = shape.vocabulary
        self._sizes = base.sizes
        self._rotation = base.rotation
        self._rereading = None if base.rotation.border is None else Rereading(base.rotation.border)
        self._logit_scale, self._logit_cap = shape.logit_scale, shape.logit_cap
        self._embedding = _embedding(base)
        self._matrices = pack_matrices(base, width)
        evict_pages(self._embedding)  # few rows of it are read
        self._norms = [{field: _norm(base, path) for field, path in paths.items()} for paths in base.norms]
        self._final_norm = _norm(base, "model.norm")
        self._cache = KeyValues(shape.layers, shape.kv_heads, shape.head)
        self._step_args, self._layer_table, self._matrix_table = _tables(self._matrices, self._norms)
        self._describe(shape)
        self._apply(shape.formulas)
        longest = max([matrix.inputs for matrix in self._matrices if matrix.kind >= QUANTISED], default=0)
        widest = max(matrix.inputs for matrix in self._matrices)
        self._steps = Steps(self._step_args, phases(shape.layers), longest, widest)
        self._spare = SpareSlab()
        self._pool = self._start_pool()

    def read_adapter(self, directory: Path) -> PanelAdapter:
        """The adapter in panels. Raises ServerFault if it does not fit the base."""
        adapter = read_adapter(directory)
        check_fit(adapter, self._sizes, directory)
        lows = [[adapter.layers.get(part.path) for part in matrix.parts] for matrix in self._matrices]
        return pack_adapter(lows, [matrix.parts for matrix in self._matrices], self._spare)

    def forward(self, chunks: Sequence[SequenceChunk[AnyAdapter]], threads: int = 1) -> NDArray[float32]:
        """The requested logits [sum of `logits`, V] in float32, in the chunks' order."""
        if self._rereading is not None:
            chunks = [self._rereading.whole(chunk) for chunk in chunks]
        for chunk in chunks:
            if self._cache.hold(chunk.slot, chunk.start + len(chunk.ids)):
                self._point_at_cache()
        threads = self._pool.gather(threads)
        logits = self._steps.fill(chunks, self._rotation, threads)
        serving_step(0, threads, self._step_args, self._layer_table, self._matrix_table)
        return self._scaled(logits)[:, : self.vocabulary]

    @property
    def takes_dots(self) -> bool:
        """Whether a `DotUnit` multiplies the layers' matrices: bfloat16, whole sizes."""
        return all(
            matrix.kind == Number.BFLOAT16 and matrix.inputs % WHOLE == 0
            for matrix in self._matrices[: LAYER_MATRICES * len(self._norms)]
        )

    def use_dots(self, unit: DotUnit) -> None:
        """Has the unit multiply the layers' matrices, with rounded activations.

        NONE: products are exact.
        """
        if unit and not self.takes_dots:
            raise ValueError("The matrices are not bfloat16 numbers, or have odd sizes.")
        self._step_args["dots"] = unit

    def copy(self, source: int, target: int, length: int) -> None:
        """Copies the first `length` positions of one slot to another."""
        if self._rereading is not None:
            self._rereading.copy(source, target, length)
        if self._cache.copy(source, target, length):
            self._point_at_cache()

    def clear(self, slot: int) -> None:
        """Empties a slot."""
        if self._rereading is not None:
            self._rereading.clear(slot)
        self._cache.clear(slot)

    def _scaled(self, logits: NDArray[float32]) -> NDArray[float32]:
        """As the family scales and caps them, in place."""
        if self._logit_scale != 1.0:
            logits *= float32(self._logit_scale)
        if self._logit_cap:
            logits /= float32(self._logit_cap)
            numpy.tanh(logits, out=logits)
            logits *= float32(self._logit_cap)
        return logits

    def _start_pool(self) -> ThreadPool:
        """Starts the threads, which end with the runner: nothing they run may refer to it."""
        args, layers, matrices = self._step_args, self._layer_table, self._matrix_table
        pool = ThreadPool(MOST_THREADS, lambda thread: serving_step(thread, 0, args, layers, matrices))
        self._step_args["pool"] = pool.address
        weakref.finalize(self, pool.close)
        return pool

    def _describe(self, shape: ServedShape) -> None:
        """Fills in what stays the same from step to step."""
        queries, keys = whole_panels(shape.heads * shape.head), whole_panels(shape.kv_heads * shape.head)
        values = {
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
            "embedding_kind": KINDS[self._embedding.dtype],
            "final_norm": self._final_norm.ctypes.data,
            "eps": shape.eps,
            "logits_stride": whole_panels(self.vocabulary) * PANEL_ROW_BYTES,
        }
        for name, value in values.items():
            self._step_args[name] = value

    def _apply(self, formulas: Formulas) -> None:
        """Fills in what the model does otherwise than Llama."""
        names = set(self._step_args.dtype.names or ())
        for field in fields(formulas):
            if field.name in names and field.name != "layers":
                self._step_args[field.name] = getattr(formulas, field.name)
        self._layer_table["rotation"] = [layer.rotation for layer in formulas.layers]
        self._layer_table["window"] = [layer.window for layer in formulas.layers]

    def _point_at_cache(self) -> None:
        self._step_args["capacity"] = self._cache.room
        self._layer_table["keys"] = [array.ctypes.data for array in self._cache.keys]
        self._layer_table["values"] = [array.ctypes.data for array in self._cache.values]


def _tables(
    matrices: Sequence[PanelMatrix], norms: Sequence[dict[str, NDArray[float32]]]
) -> tuple[Records, Records, Records]:
    """Empty arguments of a step, the layers without keys and values, the matrices.

    They point into `matrices` and `norms`, which the runner keeps.
    """
    layer_table, matrix_table = numpy.zeros(len(norms), LAYER), numpy.zeros(len(matrices), MATRIX)
    for row, of_layer in zip(layer_table, norms, strict=True):
        for name, norm in of_layer.items():
            row[name] = norm.ctypes.data
    for row, matrix in zip(matrix_table, matrices, strict=True):
        row["weight"], row["length"], row["panels"] = matrix.weight.ctypes.data, matrix.inputs, len(matrix.weight)
        row["kind"] = matrix.kind
        row["bias"] = 0 if matrix.bias is None else matrix.bias.ctypes.data
        row["panel_stride"] = matrix.weight.strides[0]
    return numpy.zeros(1, STEP_ARGS), layer_table, matrix_table


def _embedding(base: BaseWeights) -> Weights:
    """[V, hidden], as it is stored where the processor reads that."""
    weight = base.weight("model.embed_tokens")
    return weight if HAS_HALF or weight.dtype != numpy.float16 else widen_rows(weight, cpu_count())


def _norm(base: BaseWeights, path: str) -> NDArray[float32]:
    """The numbers that the norm at `path` multiplies by."""
    numbers, offset = widen(base.weight(path)), base.shape.norm_offset
    return numbers + float32(offset) if offset else numbers
