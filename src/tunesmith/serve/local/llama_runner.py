"""The Llama family on a CPU, with each step a single call of compiled code.

The differences: the new tokens of all sequences go through the linear layers as one matrix, however many each sequence
has; linear layers with the same input are one matrix too; keys and values are written in place; adapters, of any rank,
are applied beside the base and not merged. Logits differ from transformers' only by the order of sums, and are the same
to the bit whatever else is in the batch.

What is not covered: sliding windows, mixtures of experts, other activations than SiLU, rotary embeddings that depend on
the length; `supports` says no to them and `runner.TransformersRunner` takes them.
"""

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from tunesmith.families.panels import Width, pack, pack_bias, packed_bytes, whole_panels
from tunesmith.kernels.forward import work
from tunesmith.kernels.step_args import ATTENTION_PHASES, JOB, LAYER, LINE, MLP_PHASES
from tunesmith.kernels.thread_pool import Team
from tunesmith.kernels.vectors import LANES
from tunesmith.serve.engine.scheduler import SequenceChunk
from tunesmith.serve.local.adapter_panels import PanelAdapter, pack_adapter
from tunesmith.serve.local.adapters import check_fit, read_adapter
from tunesmith.serve.local.kv_cache import KeyValues
from tunesmith.serve.local.runner import AnyAdapter, cache_bytes
from tunesmith.serve.local.step import Rotation, Steps
from tunesmith.system.pages import Slab, SpareSlab, fresh_slab, release_pages

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
FIXED_ROTATIONS = ("default", "linear", "llama3", "yarn")  # the angles of a position do not depend on the length
MOST_THREADS = 64
HEAD = ("lm_head",)


def supports(config: PretrainedConfig) -> bool:
    """True if the compiled code computes this model's formulas."""
    kinds = getattr(config, "layer_types", None) or ()
    rope = getattr(config, "rope_parameters", None) or {}
    return (
        config.model_type in FAMILIES
        and config.hidden_act == "silu"
        and not (config.model_type == "mistral" and config.sliding_window)
        and all(kind == "full_attention" for kind in kinds)
        and rope.get("rope_type", "default") in FIXED_ROTATIONS
    )


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
            if isinstance(module, nn.Linear)
        }
        self._rotation = Rotation(model.model.rotary_emb)
        self._embedding: Tensor = model.model.embed_tokens.weight.data.float().contiguous()
        self._lines = _lines(model, layers, width)
        self._norms = [_norms(model, index) for index in range(layers)]
        self._final_norm = _numbers(model.model.norm.weight)
        head_size: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._cache = KeyValues(layers, config.num_key_value_heads, head_size)
        self._jobs, self._layer_table, self._line_table = _tables(self._lines, self._norms)
        self._describe(config, head_size, width)
        self._steps = Steps(self._jobs, layers * (ATTENTION_PHASES + MLP_PHASES) + 3)
        self._spare = SpareSlab()
        self._team = self._gather()

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
        threads = self._team.gather(torch.get_num_threads())
        logits = self._steps.fill(chunks, self._rotation, threads)
        work(0, threads, self._jobs, self._layer_table, self._line_table)
        return logits[:, : self._vocabulary]

    def copy(self, source: int, target: int, length: int) -> None:
        if self._cache.copy(source, target, length):
            self._point_at_cache()

    def clear(self, slot: int) -> None:
        self._cache.clear(slot)

    def _gather(self) -> Team:
        """Starts the threads, which end with the runner: nothing they run may refer to it."""
        jobs, layers, lines = self._jobs, self._layer_table, self._line_table
        team = Team(MOST_THREADS, lambda member: work(member, 0, jobs, layers, lines))
        self._jobs["team"] = team.address
        weakref.finalize(self, team.close)
        return team

    def _describe(self, config: PretrainedConfig, head_size: int, width: Width) -> None:
        """Fills in what stays the same from step to step."""
        heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
        queries, keys = whole_panels(heads * head_size), whole_panels(kv_heads * head_size)
        fields = {
            "half": width == "float16",
            "layers": config.num_hidden_layers,
            "hidden": config.hidden_size,
            "hidden_stride": whole_panels(config.hidden_size) * LANES * 4,
            "heads": heads,
            "kv_heads": kv_heads,
            "head": head_size,
            "head_panels": whole_panels(head_size),
            "qkv_stride": (queries + 2 * keys) * LANES * 4,
            "key_column": queries * LANES,
            "value_column": (queries + keys) * LANES,
            "inner_panels": whole_panels(config.intermediate_size),
            "embedding": self._embedding.data_ptr(),
            "final_norm": self._final_norm.data_ptr(),
            "eps": config.rms_norm_eps,
            "logits_stride": whole_panels(self._vocabulary) * LANES * 4,
        }
        for name, value in fields.items():
            self._jobs[name] = value

    def _point_at_cache(self) -> None:
        self._jobs["room"] = self._cache.room
        self._layer_table["keys"] = [tensor.data_ptr() for tensor in self._cache.keys]
        self._layer_table["values"] = [tensor.data_ptr() for tensor in self._cache.values]


_Records: TypeAlias = NDArray[numpy.void]


def _tables(lines: Sequence[_Line], norms: Sequence[dict[str, Tensor]]) -> tuple[_Records, _Records, _Records]:
    """An empty job, the layers without their keys and values, the lines."""
    layer_table, line_table = numpy.zeros(len(norms), LAYER), numpy.zeros(len(lines), LINE)
    for row, of_layer in zip(layer_table, norms, strict=True):
        for name, norm in of_layer.items():
            row[name] = norm.data_ptr()
    for row, line in zip(line_table, lines, strict=True):
        panels, length, _ = line.weight.shape
        row["weight"], row["length"], row["panels"] = line.weight.data_ptr(), length, panels
        row["bias"] = 0 if line.bias is None else line.bias.data_ptr()
        row["panel_stride"] = length * LANES * line.weight.itemsize
    return numpy.zeros(1, JOB), layer_table, line_table


def _lines(model: PreTrainedModel, layers: int, width: Width) -> list[_Line]:
    """Of all layers, LINES each, and the output layer's."""
    groups = [parts for index in range(layers) for parts in _groups(f"model.layers.{index}")]
    slab = fresh_slab(sum(packed_bytes([_weight(model, part) for part in parts], width) for parts in [*groups, HEAD]))
    head = _line(model, HEAD, width, slab)  # it may be the embedding too, which stays
    return [*(_freed_line(model, parts, width, slab) for parts in groups), head]


def _groups(layer: str) -> list[tuple[str, ...]]:
    """Linears that read the same input."""
    attention, mlp = f"{layer}.self_attn", f"{layer}.mlp"
    return [
        (f"{attention}.q_proj", f"{attention}.k_proj", f"{attention}.v_proj"),
        (f"{attention}.o_proj",),
        (f"{mlp}.gate_proj", f"{mlp}.up_proj"),
        (f"{mlp}.down_proj",),
    ]


def _weight(model: PreTrainedModel, path: str) -> Tensor:
    weight: Tensor = model.get_submodule(path).weight.data
    return weight


def _line(model: PreTrainedModel, parts: tuple[str, ...], width: Width, slab: Slab) -> _Line:
    weights = [_weight(model, part) for part in parts]
    biases = [model.get_submodule(part).bias for part in parts]
    return _Line(
        weight=pack(weights, width, slab),
        bias=None if biases[0] is None else pack_bias([bias.data for bias in biases]),
        parts=parts,
        sizes=tuple(map(len, weights)),
    )


def _freed_line(model: PreTrainedModel, parts: tuple[str, ...], width: Width, slab: Slab) -> _Line:
    line = _line(model, parts, width, slab)
    for part in parts:
        linear = model.get_submodule(part)
        release_pages(linear.weight.data)
        linear.weight.data = torch.empty(0)  # so that the base is not in memory twice
    return line


def _norms(model: PreTrainedModel, index: int) -> dict[str, Tensor]:
    path = f"model.layers.{index}"
    norms = {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
    if hasattr(model.get_submodule(f"{path}.self_attn"), "q_norm"):
        norms |= {"query_norm": "self_attn.q_norm", "key_norm": "self_attn.k_norm"}
    return {name: _numbers(model.get_submodule(f"{path}.{module}").weight) for name, module in norms.items()}


def _numbers(parameter: Tensor) -> Tensor:
    numbers: Tensor = parameter.data.float().contiguous()
    return numbers
