"""A lean forward pass for the Llama family on a CPU: the same weights and formulas as transformers, fewer operations.

What it changes: the new tokens of all sequences go through the linears as one matrix, however many each has; linears
that read the same input are one matrix too (see `matrix`); keys and values are written in place instead of
concatenated; query heads that share a key head are one attention call; adapters share their products (see `lanes`).
Nothing is merged or rounded: logits differ from transformers' by the order of sums only, and tests hold the greedy
tokens equal.

What is not covered: sliding windows, mixtures of experts, other activations than SiLU; `supports` says no to them and
`runner.TransformersRunner` takes them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm, silu
from transformers import PretrainedConfig, PreTrainedModel

from tunesmith.models.pages import give_back
from tunesmith.serve.keyvalues import KeyValues
from tunesmith.serve.lanes import FusedAdapter, Lanes, Mix, fuse
from tunesmith.serve.lora import check_fit, read_adapter
from tunesmith.serve.matrix import Matrix, Width
from tunesmith.serve.runner import AnyAdapter, cache_bytes
from tunesmith.serve.scheduler import Feed

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")


@dataclass(frozen=True, slots=True)
class Fused:
    """Linears that read the same input, side by side. Module paths name the parts, for adapters."""

    weight: Matrix
    bias: Tensor | None
    parts: tuple[str, ...]
    sizes: tuple[int, ...]

    @property
    def key(self) -> str:
        return self.parts[0]


@dataclass(frozen=True, slots=True)
class Layer:
    attention_norm: Tensor
    qkv: Fused
    query_norm: Tensor | None  # Qwen3's, over each head
    key_norm: Tensor | None
    output: Fused
    mlp_norm: Tensor
    gate_up: Fused
    down: Fused


def supports(config: PretrainedConfig) -> bool:
    kinds = getattr(config, "layer_types", None) or ()
    return (
        config.model_type in FAMILIES
        and config.hidden_act == "silu"
        and not (config.model_type == "mistral" and config.sliding_window)
        and all(kind == "full_attention" for kind in kinds)
    )


class LeanRunner:
    """Takes the weights out of `model`, which cannot be used afterwards."""

    rewinds = True

    def __init__(self, model: PreTrainedModel, width: Width = "float32") -> None:
        config = model.config
        self.context_length: int = config.max_position_embeddings
        self.token_bytes = cache_bytes(config, model.dtype)
        self.heads: int = config.num_attention_heads
        self.kv_heads: int = config.num_key_value_heads
        self.head_size: int = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.eps: float = config.rms_norm_eps
        self.sizes = {
            name: (module.out_features, module.in_features)
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear)
        }
        self.embedding: Tensor = model.model.embed_tokens.weight.data
        self.rotary = model.model.rotary_emb
        self.layers = [_layer(model, f"model.layers.{index}", width) for index in range(config.num_hidden_layers)]
        self.final_norm: Tensor = model.model.norm.weight.data
        self.head = Matrix(model.lm_head.weight.data, width)
        self.lanes = Lanes()
        self.cache = KeyValues(len(self.layers), self.heads, self.kv_heads, self.head_size, self.embedding.dtype)

    def read_adapter(self, directory: Path) -> FusedAdapter:
        adapter = read_adapter(directory, self.embedding.dtype, self.embedding.device)
        check_fit(adapter, self.sizes, directory)
        fused = {}
        for layer in self.layers:
            for linear in (layer.qkv, layer.output, layer.gate_up, layer.down):
                lows = [adapter.layers.get(part) for part in linear.parts]
                if any(lows):
                    fused[linear.key] = fuse(lows, linear.sizes)
        return FusedAdapter(fused)

    def forward(self, feeds: Sequence[Feed[AnyAdapter]]) -> Tensor:
        """The wanted logits [sum of `logits`, V] in float32; the feeds are in the order of their slots."""
        spans = _spans(feeds)
        reading = self.cache.prepare(feeds)
        hidden = self.embedding[[token for feed in feeds for token in feed.ids]]  # [tokens, hidden]
        cos, sin = (table[0].unsqueeze(1) for table in self.rotary(hidden, reading.positions.unsqueeze(0)))
        rotation = cos, _signed(sin)  # [tokens, 1, head size]
        adapters = [cast(FusedAdapter | None, feed.adapter) for feed in feeds]
        mix = self.lanes.mix([*zip(spans, adapters, strict=True)])
        turned = self.heads + self.kv_heads
        for index, layer in enumerate(self.layers):
            normed = rms_norm(hidden, hidden.shape[-1:], layer.attention_norm, self.eps)
            qkv = _apply(layer.qkv, normed, mix).view(len(hidden), -1, self.head_size)
            rotated = _rotate(_norm_heads(layer, qkv[:, :turned], self.heads, self.eps), *rotation)
            queries, keys = rotated[:, : self.heads], rotated[:, self.heads :]
            attended = self.cache.attend(index, reading, queries, keys, qkv[:, turned:])
            hidden = _add(hidden, layer.output, attended, mix)
            normed = rms_norm(hidden, hidden.shape[-1:], layer.mlp_norm, self.eps)
            gate, up = _apply(layer.gate_up, normed, mix).chunk(2, dim=-1)
            hidden = _add(hidden, layer.down, silu(gate) * up, mix)
        wanted = [span.stop - 1 - back for feed, span in zip(feeds, spans, strict=True) for back in _last(feed)]
        last = hidden[wanted]
        return self.head(rms_norm(last, last.shape[-1:], self.final_norm, self.eps)).float()

    def copy(self, source: int, target: int, length: int) -> None:
        self.cache.copy(source, target, length)

    def release(self, slot: int) -> None:
        self.cache.release(slot)


def _spans(feeds: Sequence[Feed[AnyAdapter]]) -> list[slice]:
    """Where each feed's tokens stand among all."""
    ends = [*accumulate(len(feed.ids) for feed in feeds)]
    return [slice(end - len(feed.ids), end) for end, feed in zip(ends, feeds, strict=True)]


def _last(feed: Feed[AnyAdapter]) -> range:
    """How far the tokens with wanted logits are from the feed's last, in order."""
    return range(feed.logits - 1, -1, -1)


def _apply(linear: Fused, inputs: Tensor, mix: Mix) -> Tensor:
    return _finish(linear.weight(inputs), linear, inputs, mix)


def _add(residual: Tensor, linear: Fused, inputs: Tensor, mix: Mix) -> Tensor:
    """residual + linear(inputs)."""
    return _finish(linear.weight.add(inputs, residual), linear, inputs, mix)


def _finish(output: Tensor, linear: Fused, inputs: Tensor, mix: Mix) -> Tensor:
    if linear.bias is not None:
        output += linear.bias
    return mix.add(linear.key, inputs, output)


def _norm_heads(layer: Layer, queries_keys: Tensor, heads: int, eps: float) -> Tensor:
    if layer.query_norm is None or layer.key_norm is None:
        return queries_keys
    size = queries_keys.shape[-1:]
    queries = rms_norm(queries_keys[:, :heads], size, layer.query_norm, eps)
    return torch.cat([queries, rms_norm(queries_keys[:, heads:], size, layer.key_norm, eps)], dim=1)


def _rotate(heads: Tensor, cos: Tensor, signed_sin: Tensor) -> Tensor:
    return torch.addcmul(heads * cos, heads.roll(heads.shape[-1] // 2, -1), signed_sin)


def _signed(sin: Tensor) -> Tensor:
    """So that rolling by half a head does what transformers' `rotate_half` does."""
    half = sin.shape[-1] // 2
    return torch.cat([-sin[..., :half], sin[..., half:]], dim=-1)


def _layer(model: PreTrainedModel, path: str, width: Width) -> Layer:
    def norm(name: str) -> Tensor:
        weight: Tensor = model.get_submodule(f"{path}.{name}").weight.data
        return weight

    has_head_norms = hasattr(model.get_submodule(f"{path}.self_attn"), "q_norm")
    return Layer(
        attention_norm=norm("input_layernorm"),
        qkv=_fused(model, [f"{path}.self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj")], width),
        query_norm=norm("self_attn.q_norm") if has_head_norms else None,
        key_norm=norm("self_attn.k_norm") if has_head_norms else None,
        output=_fused(model, [f"{path}.self_attn.o_proj"], width),
        mlp_norm=norm("post_attention_layernorm"),
        gate_up=_fused(model, [f"{path}.mlp.gate_proj", f"{path}.mlp.up_proj"], width),
        down=_fused(model, [f"{path}.mlp.down_proj"], width),
    )


def _fused(model: PreTrainedModel, parts: list[str], width: Width) -> Fused:
    linears = [model.get_submodule(part) for part in parts]
    biases = [linear.bias for linear in linears]
    fused = Fused(
        weight=Matrix(torch.cat([linear.weight.data for linear in linears]), width),
        bias=None if biases[0] is None else torch.cat([bias.data for bias in biases]),
        parts=tuple(parts),
        sizes=tuple(linear.out_features for linear in linears),
    )
    for linear in linears:
        give_back(linear.weight.data)
        linear.weight.data = torch.empty(0)  # or the base would be in memory twice
    return fused
