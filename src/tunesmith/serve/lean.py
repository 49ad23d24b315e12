"""A lean forward pass for the Llama family on a CPU: the same weights and formulas as transformers, fewer operations.

What it changes: linears that read the same input are one matrix (see `matrix`), keys and values are written in place
instead of concatenated, query heads that share a key head are one attention call, an adapter's low-rank pairs are fused
likewise. Nothing is merged or rounded: logits differ from transformers' by the order of sums only, and tests hold the
greedy tokens equal.

What is not covered: sliding windows, mixtures of experts, other activations than SiLU; `supports` says no to them and
`runner.TransformersRunner` takes them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, rms_norm, scaled_dot_product_attention, silu
from transformers import PretrainedConfig, PreTrainedModel

from tunesmith.serve.lora import Adapter, LowRank, check_fit, read_adapter
from tunesmith.serve.matrix import Matrix
from tunesmith.serve.runner import cache_bytes

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
ROOM = 128  # least number of positions added when keys and values outgrow their tensors


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

    def __init__(self, model: PreTrainedModel) -> None:
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
        self.layers = [_layer(model, f"model.layers.{index}") for index in range(config.num_hidden_layers)]
        self.final_norm: Tensor = model.model.norm.weight.data
        self.head = Matrix(model.lm_head.weight.data)

    def read_adapter(self, directory: Path) -> Adapter:
        adapter = read_adapter(directory, self.embedding.dtype, self.embedding.device)
        check_fit(adapter, self.sizes, directory)
        fused = {}
        for layer in self.layers:
            for linear in (layer.qkv, layer.output, layer.gate_up, layer.down):
                if any(part in adapter.layers for part in linear.parts):
                    fused[linear.key] = _fuse(linear, adapter)
        return Adapter(fused, sum(low.a.nbytes + low.b.nbytes for low in fused.values()))

    def new_batch(self) -> "LeanBatch":
        return LeanBatch(self, [], 0, 1)


class LeanBatch:
    """Keys and values [rows, key heads, room, head size] per layer; the first `length` positions are filled."""

    def __init__(self, runner: LeanRunner, cache: list[tuple[Tensor, Tensor]], length: int, rows: int) -> None:
        self._runner = runner
        self._cache = cache
        self._length = length
        self._rows = rows

    def forward(self, ids_BT: Tensor, adapter: Adapter | None) -> Tensor:
        runner, (rows, new) = self._runner, ids_BT.shape
        end = self._length + new
        self._make_room(end)
        hidden = runner.embedding[ids_BT.flatten()]  # [rows * new, hidden]
        positions = torch.arange(self._length, end).unsqueeze(0)
        cos, sin = (table[0].unsqueeze(1) for table in runner.rotary(hidden, positions))  # [new, 1, head size]
        rotation = cos, _signed(sin)
        mask = None if new == 1 else self._mask(new, end)
        lows = adapter.layers if adapter is not None else {}
        for layer, cache in zip(runner.layers, self._cache, strict=True):
            normed = rms_norm(hidden, hidden.shape[-1:], layer.attention_norm, runner.eps)
            attended = self._attend(layer, _apply(layer.qkv, normed, lows), cache, rotation, mask, rows)
            hidden = _add(hidden, layer.output, attended, lows)
            normed = rms_norm(hidden, hidden.shape[-1:], layer.mlp_norm, runner.eps)
            gate, up = _apply(layer.gate_up, normed, lows).chunk(2, dim=-1)
            hidden = _add(hidden, layer.down, silu(gate) * up, lows)
        self._length = end
        last = hidden.view(rows, new, -1)[:, -1]
        return runner.head(rms_norm(last, last.shape[-1:], runner.final_norm, runner.eps)).float()

    def repeat(self, rows: int) -> "LeanBatch":
        cache = [(keys.repeat(rows, 1, 1, 1), values.repeat(rows, 1, 1, 1)) for keys, values in self._cache]
        return LeanBatch(self._runner, cache, self._length, rows)

    def keep(self, rows: Sequence[int]) -> None:
        index = torch.tensor(rows)
        self._cache = [(keys[index], values[index]) for keys, values in self._cache]
        self._rows = len(rows)

    def _attend(
        self,
        layer: Layer,
        qkv: Tensor,
        cache: tuple[Tensor, Tensor],
        rotation: tuple[Tensor, Tensor],
        mask: Tensor | None,
        rows: int,
    ) -> Tensor:
        runner = self._runner
        heads, kv_heads, size = runner.heads, runner.kv_heads, runner.head_size
        qkv = qkv.view(rows, -1, heads + 2 * kv_heads, size)
        new = qkv.shape[1]
        rotated = _rotate(_norm_heads(layer, qkv[:, :, : heads + kv_heads], heads, runner.eps), *rotation)
        keys, values = (tensor[:, :, : self._length + new] for tensor in cache)
        keys[:, :, self._length :] = rotated[:, :, heads:].transpose(1, 2)
        values[:, :, self._length :] = qkv[:, :, heads + kv_heads :].transpose(1, 2)
        # Query heads that share a key head stand as further queries of that head: [rows, kv_heads, group * new, size].
        queries = rotated[:, :, :heads].transpose(1, 2).reshape(rows, kv_heads, -1, size)
        attended = scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        return attended.reshape(rows, heads, new, size).transpose(1, 2).reshape(rows * new, heads * size)

    def _mask(self, new: int, end: int) -> Tensor:
        """[group * new, end]: which positions each new one sees."""
        visible = torch.arange(end) <= torch.arange(self._length, end).unsqueeze(1)
        return visible.repeat(self._runner.heads // self._runner.kv_heads, 1)

    def _make_room(self, end: int) -> None:
        runner, room = self._runner, end + max(ROOM, end // 4)
        if not self._cache:
            shape = (self._rows, runner.kv_heads, room, runner.head_size)
            self._cache = [(_empty(shape, runner), _empty(shape, runner)) for _ in runner.layers]
        elif end > self._cache[0][0].shape[2]:
            more = (0, 0, 0, room - self._cache[0][0].shape[2])
            self._cache = [(pad(keys, more), pad(values, more)) for keys, values in self._cache]


def _apply(linear: Fused, inputs: Tensor, lows: dict[str, LowRank]) -> Tensor:
    return _finish(linear.weight(inputs), linear, inputs, lows)


def _add(residual: Tensor, linear: Fused, inputs: Tensor, lows: dict[str, LowRank]) -> Tensor:
    """residual + linear(inputs)."""
    return _finish(linear.weight.add(inputs, residual), linear, inputs, lows)


def _finish(output: Tensor, linear: Fused, inputs: Tensor, lows: dict[str, LowRank]) -> Tensor:
    if linear.bias is not None:
        output += linear.bias
    low = lows.get(linear.key)
    return output if low is None else output.addmm_(torch.mm(inputs, low.a), low.b)


def _norm_heads(layer: Layer, queries_keys: Tensor, heads: int, eps: float) -> Tensor:
    if layer.query_norm is None or layer.key_norm is None:
        return queries_keys
    size = queries_keys.shape[-1:]
    queries = rms_norm(queries_keys[:, :, :heads], size, layer.query_norm, eps)
    return torch.cat([queries, rms_norm(queries_keys[:, :, heads:], size, layer.key_norm, eps)], dim=2)


def _rotate(heads: Tensor, cos: Tensor, signed_sin: Tensor) -> Tensor:
    return torch.addcmul(heads * cos, heads.roll(heads.shape[-1] // 2, -1), signed_sin)


def _signed(sin: Tensor) -> Tensor:
    """So that rolling by half a head does what transformers' `rotate_half` does."""
    half = sin.shape[-1] // 2
    return torch.cat([-sin[..., :half], sin[..., half:]], dim=-1)


def _empty(shape: tuple[int, ...], runner: LeanRunner) -> Tensor:
    return torch.empty(shape, dtype=runner.embedding.dtype)


def _layer(model: PreTrainedModel, path: str) -> Layer:
    def norm(name: str) -> Tensor:
        weight: Tensor = model.get_submodule(f"{path}.{name}").weight.data
        return weight

    has_head_norms = hasattr(model.get_submodule(f"{path}.self_attn"), "q_norm")
    return Layer(
        attention_norm=norm("input_layernorm"),
        qkv=_fused(model, [f"{path}.self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj")]),
        query_norm=norm("self_attn.q_norm") if has_head_norms else None,
        key_norm=norm("self_attn.k_norm") if has_head_norms else None,
        output=_fused(model, [f"{path}.self_attn.o_proj"]),
        mlp_norm=norm("post_attention_layernorm"),
        gate_up=_fused(model, [f"{path}.mlp.gate_proj", f"{path}.mlp.up_proj"]),
        down=_fused(model, [f"{path}.mlp.down_proj"]),
    )


def _fused(model: PreTrainedModel, parts: list[str]) -> Fused:
    linears = [model.get_submodule(part) for part in parts]
    biases = [linear.bias for linear in linears]
    fused = Fused(
        weight=Matrix(torch.cat([linear.weight.data for linear in linears])),
        bias=None if biases[0] is None else torch.cat([bias.data for bias in biases]),
        parts=tuple(parts),
        sizes=tuple(linear.out_features for linear in linears),
    )
    for linear in linears:
        linear.weight.data = torch.empty(0)  # or the base would be in memory twice
    return fused


def _fuse(linear: Fused, adapter: Adapter) -> LowRank:
    """Down projections side by side, up projections on the diagonal: `x @ a @ b` updates all parts at once."""
    lows = [adapter.layers.get(part) for part in linear.parts]
    ranks = [0 if low is None else low.a.shape[0] for low in lows]
    a = torch.cat([low.a for low in lows if low is not None]).t().contiguous()  # [in, all ranks]
    b = a.new_zeros(sum(ranks), sum(linear.sizes))
    row = column = 0
    for low, rank, size in zip(lows, ranks, linear.sizes, strict=True):
        if low is not None:
            b[row : row + rank, column : column + size] = low.b.t()
        row, column = row + rank, column + size
    return LowRank(a, b)
