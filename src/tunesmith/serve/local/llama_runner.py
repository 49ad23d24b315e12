"""Llama and its relatives on a CPU, with each step a single call of compiled code.

The differences: the new tokens of all sequences go through the linear layers as one matrix, however many each sequence
has; linear layers with the same input are one matrix too; keys and values are written in place; adapters, of any rank,
are applied beside the base and not merged. Logits differ from transformers' only by the order of sums, and are the same
to the bit whatever else is in the batch.

What families do otherwise than Llama is data (`families.formulas`). What is not covered: mixtures of experts, MLPs
without a gate, norms that subtract the mean, rotary embeddings that change with every length (`families.table` says
which and why); `supports` says no to them and `runner.TransformersRunner` takes them.
"""

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import cast

import numpy
import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from tunesmith.families.compiled_shapes import linear_sizes, model_gap
from tunesmith.families.formulas import Formulas, formulas_of, layout_of, rotary_order, rotary_sizes
from tunesmith.families.layout import (
    SHARED_INPUTS,
    head_size,
    layer_inputs,
    layer_path,
    logit_cap,
    logit_scale,
    norm_names,
)
from tunesmith.families.panels import Width, pack, pack_bias, packed_bytes, whole_panels
from tunesmith.families.text_part import is_plain_linear
from tunesmith.kernels.records import Records
from tunesmith.kernels.serving.step import serving_step
from tunesmith.kernels.serving.step_args import LAYER, MATRIX, STEP_ARGS, phases
from tunesmith.kernels.thread_pool import MOST_THREADS, ThreadPool
from tunesmith.kernels.vectors import LANES, PANEL_ROW_BYTES
from tunesmith.serve.engine.model import SequenceChunk
from tunesmith.serve.local.adapter_panels import PanelAdapter, Part, pack_adapter
from tunesmith.serve.local.adapters import check_fit, read_adapter
from tunesmith.serve.local.kv_cache import KeyValues
from tunesmith.serve.local.rotation import Rereading, Rotation
from tunesmith.serve.local.runner import AnyAdapter, cache_bytes
from tunesmith.serve.local.step import Steps
from tunesmith.system.pages import Slab, SpareSlab, fresh_slab, release_pages

HEAD = "lm_head"
ROTATED = SHARED_INPUTS[0][:2]


def supports(model: PreTrainedModel) -> bool:
    """Whether a `CompiledRunner` computes this model."""
    return model_gap(model, "serving") is None


@dataclass(frozen=True, slots=True)
class _Line:
    """Linears that read the same input."""

    weight: Tensor
    bias: Tensor | None
    parts: tuple[Part, ...]


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
        formulas = formulas_of(model)
        self._rotation = Rotation(model.base_model.rotary_emb, formulas.rotations)
        self._rereading = None if self._rotation.border is None else Rereading(self._rotation.border)
        self._logit_scale, self._logit_cap = logit_scale(config), logit_cap(config)
        self._embedding: Tensor = model.base_model.embed_tokens.weight.data.float().contiguous()
        self._lines = _lines(model, layers, width)
        self._norms = [_norms(model, index) for index in range(layers)]
        self._final_norm = _norm(model.base_model.norm, layout_of(config).norm_offset)
        self._cache = KeyValues(layers, config.num_key_value_heads, head_size(config))
        self._step_args, self._layer_table, self._matrix_table = _tables(self._lines, self._norms)
        self._describe(config, width)
        self._apply(formulas)
        self._steps = Steps(self._step_args, phases(layers))
        self._spare = SpareSlab()
        self._pool = self._start_pool()

    def read_adapter(self, directory: Path) -> PanelAdapter:
        """The adapter in panels. Raises ServerFault if it does not fit the base."""
        adapter = read_adapter(directory, torch.float32, torch.device("cpu"))
        check_fit(adapter, self._sizes, directory)
        lows = [[adapter.layers.get(part.path) for part in line.parts] for line in self._lines]
        return pack_adapter(lows, [line.parts for line in self._lines], self._spare)

    def forward(self, chunks: Sequence[SequenceChunk[AnyAdapter]]) -> Tensor:
        """The requested logits [sum of `logits`, V] in float32, in the chunks' order."""
        if self._rereading is not None:
            chunks = [self._rereading.whole(chunk) for chunk in chunks]
        for chunk in chunks:
            if self._cache.hold(chunk.slot, chunk.start + len(chunk.ids)):
                self._point_at_cache()
        threads = self._pool.gather(torch.get_num_threads())
        logits = self._steps.fill(chunks, self._rotation, threads)
        serving_step(0, threads, self._step_args, self._layer_table, self._matrix_table)
        return self._scaled(logits)[:, : self._vocabulary]

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

    def _scaled(self, logits: Tensor) -> Tensor:
        """As the family scales and caps them, in place."""
        if self._logit_scale != 1.0:
            logits *= self._logit_scale
        return logits.div_(self._logit_cap).tanh_().mul_(self._logit_cap) if self._logit_cap else logits

    def _start_pool(self) -> ThreadPool:
        """Starts the threads, which end with the runner: nothing they run may refer to it."""
        args, layers, matrices = self._step_args, self._layer_table, self._matrix_table
        pool = ThreadPool(MOST_THREADS, lambda thread: serving_step(thread, 0, args, layers, matrices))
        self._step_args["pool"] = pool.address
        weakref.finalize(self, pool.close)
        return pool

    def _describe(self, config: PretrainedConfig, width: Width) -> None:
        """Fills in what stays the same from step to step."""
        heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
        head = head_size(config)
        queries, keys = whole_panels(heads * head), whole_panels(kv_heads * head)
        values = {
            "half": width == "float16",
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
            "final_norm": self._final_norm.data_ptr(),
            "eps": config.rms_norm_eps,
            "logits_stride": whole_panels(self._vocabulary) * PANEL_ROW_BYTES,
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
        row["bias"] = 0 if line.bias is None else line.bias.data_ptr()
        row["panel_stride"] = length * LANES * line.weight.itemsize
    return numpy.zeros(1, STEP_ARGS), layer_table, matrix_table


def _lines(model: PreTrainedModel, layers: int, width: Width) -> list[_Line]:
    """Of all layers, LAYER_MATRICES each, and the output layer's."""
    groups = [parts for index in range(layers) for parts in _layer_parts(model, index)]
    head = (Part(HEAD, (len(_linear(model, HEAD).weight),)),)
    slab = fresh_slab(sum(packed_bytes(_weights(model, parts), width) for parts in [*groups, head]))
    line = _line(model, head, width, slab)  # it may be the embedding too, which stays
    return [*(_freed_line(model, parts, width, slab) for parts in groups), line]


def _layer_parts(model: PreTrainedModel, index: int) -> list[tuple[Part, ...]]:
    """A layer's linears by the input that they share."""
    config, sizes = model.config, linear_sizes(model.config, index)
    rotated, layer = rotary_sizes(model)[0], model.get_submodule(layer_path(index))
    groups = list[tuple[Part, ...]]()
    for names, paths in zip(SHARED_INPUTS, layer_inputs(layer), strict=True):
        outs = {path: (sizes[path][0],) if path in sizes else tuple(sizes[name][0] for name in names) for path in paths}
        heads = {path: outs[path][0] // head_size(config) for path in paths if path in ROTATED}
        orders = {path: rotary_order(config, rotated, count) for path, count in heads.items()}
        groups.append(tuple(Part(f"{layer_path(index)}.{path}", outs[path], orders.get(path)) for path in paths))
    return groups


def _weights(model: PreTrainedModel, parts: tuple[Part, ...]) -> list[Tensor]:
    return [piece for part in parts for piece in part.pieces(_linear(model, part.path).weight.data)]


def _linear(model: PreTrainedModel, path: str) -> nn.Linear:
    return cast(nn.Linear, model.get_submodule(path))


def _line(model: PreTrainedModel, parts: tuple[Part, ...], width: Width, slab: Slab) -> _Line:
    biases = [(part, _linear(model, part.path).bias) for part in parts]
    pieces = [piece for part, bias in biases if bias is not None for piece in part.pieces(bias.data)]
    return _Line(pack(_weights(model, parts), width, slab), pack_bias(pieces) if pieces else None, parts)


def _freed_line(model: PreTrainedModel, parts: tuple[Part, ...], width: Width, slab: Slab) -> _Line:
    line = _line(model, parts, width, slab)
    for part in parts:
        linear = _linear(model, part.path)
        release_pages(linear.weight.data)
        linear.weight.data = torch.empty(0)  # so that the base is not in memory twice
    return line


def _norms(model: PreTrainedModel, index: int) -> dict[str, Tensor]:
    layer, layout = model.get_submodule(layer_path(index)), layout_of(model.config)
    names = norm_names(cast(nn.Module, layer.self_attn), layout.norms)
    return {field: _norm(layer.get_submodule(name), layout.norm_offset) for field, name in names.items()}


def _norm(norm: nn.Module, offset: float) -> Tensor:
    """The numbers that the norm multiplies by."""
    numbers: Tensor = cast(Tensor, norm.weight).data.float()
    return (numbers + offset if offset else numbers).contiguous()
