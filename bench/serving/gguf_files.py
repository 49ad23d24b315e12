"""Writes the base, in F16, Q8_0 or Q4_K_M, and adapters, in F16, as GGUF files.

The base is written from its original GGUF file with all metadata, so that tokens and settings are the same; each weight
is converted to float32 first, as Tunesmith does. Norms stay float32, as in llama.cpp's own converter.
Names and metadata of adapters: llama.cpp's `convert_lora_to_gguf.py`.

A base that did not come as a GGUF file is written by our own export; Q4_K_M is made from its F16.

What is not covered: adapters on others than the Llama family.
"""

import json
from pathlib import Path

import numpy as np
from bench.exports.gguf_rounding import BLOCK, KINDS, blocks, kind_in_mixture
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, LlamaFileType, dequantize, quantize
from numpy.typing import NDArray
from safetensors.numpy import load_file

from tunesmith.export.architectures import read_shape
from tunesmith.export.gguf_file import plan_gguf, write_gguf
from tunesmith.export.kinds import Width
from tunesmith.export.tuned_model import TunedModel
from tunesmith.models.adapters import AdapterManifest

EXPORTED: dict[str, Width] = {"F16": "f16", "Q8_0": "q8_0"}
FILE_TYPES = {
    "F16": LlamaFileType.MOSTLY_F16,
    "Q8_0": LlamaFileType.MOSTLY_Q8_0,
    "Q4_K_M": LlamaFileType.MOSTLY_Q4_K_M,
}
OWN_FIELDS = ("GGUF.", "general.architecture", "general.file_type", "general.quantization_version")
PARTS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_base(source: Path, target: Path, width: str) -> Path:
    """`width`: F16, Q8_0 or Q4_K_M."""
    reader = GGUFReader(source)
    architecture = str(reader.fields["general.architecture"].contents())
    layers = int(reader.fields[f"{architecture}.block_count"].contents())
    writer = GGUFWriter(target, architecture)
    for name, field in reader.fields.items():
        if not name.startswith(OWN_FIELDS):
            inner = field.types[1] if field.types[0] == GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), field.types[0], inner)
    writer.add_file_type(FILE_TYPES[width])
    writer.add_quantization_version(2)
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        kind = _kind(tensor.name, values, width, layers)
        if kind is None:
            writer.add_tensor(tensor.name, values)
        elif kind == "F16":
            writer.add_tensor(tensor.name, values.astype(np.float16))
        elif kind == "Q8_0":
            eight = GGMLQuantizationType.Q8_0
            writer.add_tensor(tensor.name, quantize(values, eight), raw_dtype=eight)
        else:
            writer.add_tensor(tensor.name, blocks(values, kind), raw_dtype=KINDS[kind])
    _finish(writer)
    return target


def _kind(name: str, values: NDArray[np.float32], width: str, layers: int) -> str | None:
    """What a tensor is written as; None: float32."""
    if values.ndim == 1:
        return None
    if width != "Q4_K_M":
        return width
    return "Q8_0" if values.shape[1] % BLOCK else kind_in_mixture(name, layers)


def export_base(base_dir: Path, target: Path, width: str) -> Path:
    """Writes a base that did not come as a GGUF file, by our own export."""
    if width == "Q4_K_M":
        whole = export_base(base_dir, target.with_suffix(".f16"), "F16")
        write_base(whole, target, width)
        whole.unlink()
        return target
    manifest = AdapterManifest("bench", "", "", 1, 1.0, (), step=0, adapter="none")
    model = TunedModel("bench", base_dir, base_dir, str(base_dir), manifest)
    write_gguf(plan_gguf(model, EXPORTED[width]), target, lambda _: None)
    return target


def write_adapter(directory: Path, base_dir: Path, target: Path) -> Path:
    """Writes the PEFT adapter in `directory` for the base in `base_dir`."""
    shape = read_shape(base_dir)
    config = json.loads((directory / "adapter_config.json").read_text("utf-8"))
    base = json.loads((base_dir / "config.json").read_text("utf-8"))
    heads = {"attn_q": base["num_attention_heads"], "attn_k": base["num_key_value_heads"]}
    writer = GGUFWriter(target, shape.architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(config["lora_alpha"]))
    for name, tensor in load_file(directory / "adapter_model.safetensors").items():
        path, _, kind = name.removeprefix("base_model.model.model.layers.").rpartition(".lora_")
        layer, _, module = path.partition(".")
        part = PARTS[module]
        values = tensor.astype(np.float32)
        if kind == "B.weight" and part in heads and shape.is_interleaved:
            values = _permute(values, heads[part])
        letter = kind[0].lower()
        writer.add_tensor(f"blk.{layer}.{part}.weight.lora_{letter}", values.astype(np.float16))
    _finish(writer)
    return target


def _permute(rows: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """llama.cpp interleaves the two rotary halves of each head; `tunesmith.models.gguf.weights` undoes it."""
    out_features, in_features = rows.shape
    split = rows.reshape(heads, 2, out_features // heads // 2, in_features)
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(out_features, in_features))


def _finish(writer: GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
