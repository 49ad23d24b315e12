"""The Llama family on a CPU, with each step a single call of compiled code.

The differences: the new tokens of all sequences go through the linear layers as one matrix, however many each sequence
has; linear layers with the same input are one matrix too; keys and values are written in place; adapters, of any rank,
are applied beside the base and not merged. Logits differ from transformers' only by the order of sums, and are the same
to the bit whatever else is in the batch.

What is not covered: sliding windows, mixtures of experts, other activations than SiLU, rotary embeddings that depend on
the length (`families.table` says which and why); `supports` says no to them and `runner.TransformersRunner` takes them.
"""

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy
import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from tunesmith.families.compiled_shapes import model_gap
from tunesmith.families.layout import head_size, layer_path, norm_names, shared_inputs
from tunesmith.families.panels import KINDS, Width, pack, pack_bias, packed_bytes, whole_panels
from tunesmith.families.text_part import is_plain_linear
from tunesmith.kernels.records import Records
from tunesmith.kernels.serving.step import serving_step
from tunesmith.kernels.serving.step_args import LAYER, MATRIX, STEP_ARGS, phases
from tunesmith.kernels.thread_pool import MOST_THREADS, ThreadPool
from tunesmith.kernels.vectors import HAS_HALF, LANES, PANEL_ROW_BYTES
from tunesmith.serve.engine.model import SequenceChunk
from tunesmith.serve.local.adapter_panels import PanelAdapter, pack_adapter
from tunesmith.serve.local.adapters import check_fit, read_adapter
from tunesmith.serve.local.kv_cache import KeyValues
from tunesmith.serve.local.runner import AnyAdapter, cache_bytes
from tunesmith.serve.local.step import Rotation, Steps
from tunesmith.system.pages import Slab, SpareSlab, evict_pages, fresh_slab, release_pages

HEAD = ("lm_head",)


def supports(model: PreTrainedModel) -> bool:
    """Whether a `CompiledRunner` computes this model."""
    return model_gap(model, "serving") is None


@dataclass(frozen=True, slots=True)
class _Line:
    """Linears that read the same input. Module paths name the parts, for adapters."""

    weight: Tensor
    bias: Tensor | None
    parts: tuple[str, ...]
    sizes: tuple[int, ...]


class CompiledRunner:
    """A `Runner` of compiled code.

    It takes the weights out of `model`, which cannot be used afterwards.
    """

    rewinds = True

    def __init__(self, model: PreTrainedModel, width: Width = "float32") -> None:
        config, layers = model.config, model.config.num_hidden_layers
        self.context_length: int = config.max_position_embeddings
        self.token_bytes = cache_bytes(config, torch.float32)
        self._vocabulary: int = config.vocab_size
        self._sizes = {
            name: (module.out_features, module.in_features)
            for name, module in model.named_modules()
            if is_plain_linear(module)
        }
        self._rotation = Rotation(model.base_model.rotary_emb)
        self._embedding = _embedding(model)
        self._lines = _lines(model, layers, width)
        evict_pages(self._embedding)  # few rows of it are read
        self._norms = [_norms(model, index) for index in range(layers)]
        self._final_norm = _numbers(cast(Tensor, model.base_model.norm.weight))
        self._cache = KeyValues(layers, config.num_key_value_heads, head_size(config))
        self._step_args, self._layer_table, self._matrix_table = _tables(self._lines, self._norms)
        self._describe(config)
        self._steps = Steps(self._step_args, phases(layers))
        self._spare = SpareSlab()
        self._pool = self._start_pool()

    def read_adapter(self, directory: Path) -> PanelAdapter:
        """The adapter in panels. Raises ServerFault if it does not fit the base."""
        adapter = read_adapter(directory, torch.float32, torch.device("cpu"))
        check_fit(adapter, self._sizes, directory)
        lows = [[adapter.layers.get(part) for part in line.parts] for line in self._lines]
        return pack_adapter(lows, [line.sizes for line in self._lines], self._spare)

    def forward(self, chunks: Sequence[SequenceChunk[AnyAdapter]]) -> Tensor:
        """The requested logits [sum of `logits`, V] in float32, in the chunks' order."""
        for chunk in chunks:
            if self._cache.hold(chunk.slot, chunk.start + len(chunk.ids)):
                self._point_at_cache()
        threads = self._pool.gather(torch.get_num_threads())
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

    def _describe(self, config: PretrainedConfig) -> None:
        """Fills in what stays the same from step to step."""
        heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
        head = head_size(config)
        queries, keys = whole_panels(heads * head), whole_panels(kv_heads * head)
        fields = {
            "layers": config.num_hidden_layers,
            "hidden": config.hidden_size,
            "hidden_stride": whole_panels(config.hidden_size) * PANEL_ROW_BYTES,
            "heads": heads,
            "kv_heads": kv_heads,
            "head_size": head,
            "head_panels": whole_panels(head),
            "qkv_stride": (queries + 2 * keys) * PANEL_ROW_BYTES,
            "key_column": queries * LANES,
            "value_column": (queries + keys) * LANES,
            "inner_panels": whole_panels(config.intermediate_size),
            "embedding": self._embedding.data_ptr(),
            "embedding_kind": KINDS[self._embedding.dtype],
            "final_norm": self._final_norm.data_ptr(),
            "eps": config.rms_norm_eps,
            "logits_stride": whole_panels(self._vocabulary) * PANEL_ROW_BYTES,
        }
        for name, value in fields.items():
            self._step_args[name] = value

    def _point_at_cache(self) -> None:
        self._step_args["capacity"] = self._cache.room
        self._layer_table["keys"] = [tensor.data_ptr() for tensor in self._cache.keys]
        self._layer_table["values"] = [tensor.data_ptr() for tensor in self._cache.values]


def _tables(lines: Sequence[_Line], norms: Sequence[dict[str, Tensor]]) -> tuple[Records, Records, Records]:
    """Empty arguments of a step, the layers without keys and values, the matrices.

    They point into `lines` and `norms`, which the runner keeps.
    """
    layer_table, matrix_table = numpy.zeros(len(norms), LAYER), numpy.zeros(len(lines), MATRIX)
    for row, of_layer in zip(layer_table, norms, strict=True):
        for name, norm in of_layer.items():
            row[name] = norm.data_ptr()
    for row, line in zip(matrix_table, lines, strict=True):
        panels, length, _ = line.weight.shape
        row["weight"], row["length"], row["panels"] = line.weight.data_ptr(), length, panels
        row["kind"] = KINDS[line.weight.dtype]
        row["bias"] = 0 if line.bias is None else line.bias.data_ptr()
        row["panel_stride"] = length * LANES * line.weight.itemsize
    return numpy.zeros(1, STEP_ARGS), layer_table, matrix_table


def _lines(model: PreTrainedModel, layers: int, width: Width) -> list[_Line]:
    """Of all layers, LAYER_MATRICES each, and the output layer's."""
    groups = [parts for index in range(layers) for parts in shared_inputs(index)]
    slab = fresh_slab(sum(packed_bytes([_weight(model, part) for part in parts], width) for parts in [*groups, HEAD]))
    tied = _weight(model, HEAD[0]).data_ptr() == model.base_model.embed_tokens.weight.data_ptr()
    head = (_line if tied else _freed_line)(model, HEAD, width, slab)  # the embedding stays
    return [*(_freed_line(model, parts, width, slab) for parts in groups), head]


def _embedding(model: PreTrainedModel) -> Tensor:
    """[V, hidden], as it is stored."""
    weight: Tensor = model.base_model.embed_tokens.weight.data
    readable = weight.dtype in KINDS and (HAS_HALF or weight.dtype != torch.float16)
    return (weight if readable else weight.float()).contiguous()


def _weight(model: PreTrainedModel, path: str) -> Tensor:
    return _linear(model, path).weight.data


def _linear(model: PreTrainedModel, path: str) -> nn.Linear:
    return cast(nn.Linear, model.get_submodule(path))


def _line(model: PreTrainedModel, parts: tuple[str, ...], width: Width, slab: Slab) -> _Line:
    weights = [_weight(model, part) for part in parts]
    biases = [_linear(model, part).bias for part in parts]
    return _Line(
        weight=pack(weights, width, slab),
        bias=None if biases[0] is None else pack_bias([bias.data for bias in biases if bias is not None]),
        parts=parts,
        sizes=tuple(map(len, weights)),
    )


def _freed_line(model: PreTrainedModel, parts: tuple[str, ...], width: Width, slab: Slab) -> _Line:
    line = _line(model, parts, width, slab)
    for part in parts:
        linear = _linear(model, part)
        release_pages(linear.weight.data)
        linear.weight.data = torch.empty(0)  # so that the base is not in memory twice
    return line


def _norms(model: PreTrainedModel, index: int) -> dict[str, Tensor]:
    layer = model.get_submodule(layer_path(index))
    names = norm_names(cast(nn.Module, layer.self_attn))
    return {field: _numbers(cast(Tensor, layer.get_submodule(name).weight)) for field, name in names.items()}


def _numbers(parameter: Tensor) -> Tensor:
    numbers: Tensor = parameter.data.float().contiguous()
    return numbers
