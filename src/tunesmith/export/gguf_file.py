"""Writes merged weights, tokenizer and template as a GGUF file; reads it back.

Names of tensors are the `gguf` package's. One weight file of the base is in memory at a time. Vectors stay in float32,
as llama.cpp's own converter has them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from tunesmith.errors import InvalidRequest
from tunesmith.export.architectures import Shape, read_shape, rope_factors
from tunesmith.export.gguf_tokenizer import GgufTokenizer, read_tokenizer
from tunesmith.export.kinds import Width
from tunesmith.export.merged import Told, Update, merged_tensors, updates_of, weight_shapes
from tunesmith.export.tuned_model import TunedModel
from tunesmith.families.peft_names import own_path

if TYPE_CHECKING:
    from gguf import GGUFWriter

BYTES = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32}
WIDTHS: dict[str, Width] = {"F32": "f32", "F16": "f16", "BF16": "bf16"}
BLOCK = 32  # values of a row that share a scale in q8_0
ROPE_FREQS = "rope_freqs.weight"
FILE = "model.gguf"
OTHER_BYTES = 1 << 14  # of a file: the other keys, names and shapes of tensors
_SUFFIXES = (".weight", ".bias")


@dataclass(frozen=True, slots=True)
class GgufPlan:
    """All that is decided before a byte is written."""

    model: TunedModel
    shape: Shape
    tokenizer: GgufTokenizer
    width: Width
    names: dict[str, str]  # the base's -> GGUF's
    shapes: dict[str, tuple[int, ...]]
    updates: dict[str, Update]

    @property
    def bytes(self) -> int:
        """About how large the file will be."""
        weights = sum(float(np.prod(shape)) for name, shape in self.shapes.items() if name in self.names)
        tokens = sum(len(token) + 16 for token in [*self.tokenizer.tokens, *self.tokenizer.merges])
        return int(weights * BYTES[self.width]) + tokens + len(self.tokenizer.template or "") + OTHER_BYTES


def plan_gguf(model: TunedModel, width: Width) -> GgufPlan:
    """Checks that the model can be written; raises InvalidRequest naming what cannot."""
    shape = read_shape(model.base_dir)
    tokenizer, shapes = read_tokenizer(model.base_dir, shape.vocabulary), weight_shapes(model.base_dir)
    chosen = _base_width(model.base_dir) if width == "auto" else width
    names = _names(shape, shapes)
    for name in names:
        if chosen == "q8_0" and len(shapes[name]) == 2 and shapes[name][-1] % BLOCK:
            raise InvalidRequest(f"{name} has rows of {shapes[name][-1]} values, which q8_0 cannot hold: take f16.")
    return GgufPlan(model, shape, tokenizer, chosen, names, shapes, updates_of(model))


def _base_width(base_dir: Path) -> Width:
    """The format of most of its numbers."""
    from safetensors import safe_open

    counts: dict[Width, int] = {}
    for file in sorted(base_dir.glob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118  # it is no dict
                part = opened.get_slice(name)
                width: Width = WIDTHS.get(part.get_dtype(), "f16")
                counts[width] = counts.get(width, 0) + int(np.prod(part.get_shape()))
    return max(counts, key=lambda one: counts[one])


def _names(shape: Shape, shapes: dict[str, tuple[int, ...]]) -> dict[str, str]:
    from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, get_tensor_name_map

    kinds = {name: kind for kind, name in MODEL_ARCH_NAMES.items()}
    table = get_tensor_name_map(kinds.get(shape.architecture, MODEL_ARCH.LLAMA), shape.layers)
    found = {}
    for name in shapes:
        if name.endswith("rotary_emb.inv_freq") or (shape.tied and name == "lm_head.weight"):
            continue
        gguf_name = table.get_name(own_path(name), _SUFFIXES)
        if gguf_name is None:
            raise InvalidRequest(f"The base has a tensor {name}, which GGUF has no name for in {shape.architecture}.")
        found[name] = str(gguf_name)
    return found


@torch.no_grad()
def write_gguf(plan: GgufPlan, file: Path, told: Told) -> None:
    """Writes the file."""
    from gguf import GGMLQuantizationType, GGUFWriter, quantize

    told(f"writing {file.name} ({plan.width})")
    writer = GGUFWriter(file, plan.shape.architecture)
    _write_keys(writer, plan)
    kinds = {name: _kind(plan, name) for name in plan.names}
    factors = rope_factors(plan.shape)
    order = [name for name, _ in _matrices(plan, values=False)]
    for name in order:
        kind = GGMLQuantizationType[kinds[name]]
        example = quantize(np.zeros((1, plan.shapes[name][-1]), np.float32), kind)
        stored = (*plan.shapes[name][:-1], example.shape[-1])
        size = int(np.prod(stored)) * example.itemsize
        writer.add_tensor_info(plan.names[name], stored, example.dtype, size, raw_dtype=kind)
    if factors is not None:
        writer.add_tensor_info(ROPE_FREQS, factors.shape, factors.dtype, factors.nbytes)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, values in _matrices(plan):
        writer.write_tensor_data(quantize(values, GGMLQuantizationType[kinds[name]]))
    if factors is not None:
        writer.write_tensor_data(factors)
    writer.close()


def _kind(plan: GgufPlan, name: str) -> str:
    return "F32" if len(plan.shapes[name]) == 1 else plan.width.upper()


def _matrices(plan: GgufPlan, *, values: bool = True) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """The merged tensors as GGUF has them, in the order of the base's files; without `values` only their names."""
    if not values:
        yield from ((name, np.empty(0, np.float32)) for name in _file_order(plan))
        return
    for _, tensors in merged_tensors(plan.model, plan.updates):
        for name in sorted(tensors):
            if name in plan.names:
                array = np.ascontiguousarray(tensors[name].float().numpy())
                heads = _heads(plan.shape, plan.names[name])
                yield name, array if heads is None else interleave(array, heads)


def _file_order(plan: GgufPlan) -> Iterator[str]:
    from safetensors import safe_open

    for file in sorted(plan.model.base_dir.glob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            yield from (name for name in sorted(opened.keys()) if name in plan.names)


def _heads(shape: Shape, gguf_name: str) -> int | None:
    """How many heads' rotary halves are interleaved in a tensor; None where none are."""
    if not shape.is_interleaved:
        return None
    return {"attn_q": shape.heads, "attn_k": shape.kv_heads}.get(gguf_name.split(".")[-2])


def interleave(rows: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """The rows of each head as llama.cpp rotates them: the two halves in turn."""
    split = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(rows.shape))


def separate(rows: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """The reverse of `interleave`."""
    split = rows.reshape(heads, rows.shape[0] // heads // 2, 2, *rows.shape[1:])
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(rows.shape))


def read_gguf(plan: GgufPlan, file: Path) -> dict[str, torch.Tensor]:
    """The file's weights in float32, under the base's names."""
    from gguf import GGUFReader, dequantize

    names = {gguf_name: name for name, gguf_name in plan.names.items()}
    found = {}
    for tensor in GGUFReader(file).tensors:
        if tensor.name in names:
            values = np.array(dequantize(tensor.data, tensor.tensor_type), np.float32)  # the file is mapped read-only
            heads = _heads(plan.shape, tensor.name)
            found[names[tensor.name]] = torch.from_numpy(values if heads is None else separate(values, heads))
    return found


def _write_keys(writer: "GGUFWriter", plan: GgufPlan) -> None:
    from gguf import LlamaFileType

    shape = plan.shape
    writer.add_type("model")
    writer.add_name(plan.model.name)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.inner)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)
    writer.add_vocab_size(len(plan.tokenizer.tokens))
    if shape.rope.get("rope_type") == "linear":
        writer.add_rope_scaling_type("linear")
        writer.add_rope_scaling_factor(float(str(shape.rope["factor"])))
    kinds = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0"}
    writer.add_file_type(LlamaFileType[kinds[plan.width]])
    writer.add_quantization_version(2)
    _write_tokenizer(writer, plan.tokenizer)


def _write_tokenizer(writer: "GGUFWriter", tokenizer: GgufTokenizer) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(tokenizer.rule)
    writer.add_token_list(tokenizer.tokens)
    writer.add_token_types(tokenizer.types)
    writer.add_token_merges(tokenizer.merges)
    writer.add_eos_token_id(tokenizer.eos)
    writer.add_add_bos_token(tokenizer.adds_bos)
    optional = {
        writer.add_bos_token_id: tokenizer.bos,
        writer.add_eot_token_id: tokenizer.eot,
        writer.add_pad_token_id: tokenizer.pad,
        writer.add_unk_token_id: tokenizer.unknown,
    }
    for add, token in optional.items():
        if token is not None:
            add(token)
    if tokenizer.template is not None:
        writer.add_chat_template(tokenizer.template)
