"""The forward pass that an engine drives: tokens in, the last position's logits out, keys and values kept between.

`TransformersRunner` runs any causal model that transformers knows.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from transformers import DynamicCache, PretrainedConfig, PreTrainedModel

from tunesmith.serve.lora import Adapter, LoraHooks, check_fit, read_adapter


class Batch(Protocol):
    """Sequences of equal length under way, with their keys and values."""

    def forward(self, ids_BT: Tensor, adapter: Adapter | None) -> Tensor:
        """Appends the tokens; logits [B, V] in float32 after each row's last one."""
        ...

    def repeat(self, rows: int) -> "Batch":
        """A copy in which the only row stands `rows` times."""
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Drops all other rows."""
        ...


class Runner(Protocol):
    context_length: int
    token_bytes: int  # keys and values of one position of one row

    def read_adapter(self, directory: Path) -> Adapter: ...

    def new_batch(self) -> Batch:
        """One row, empty. Costs nothing until its first forward."""
        ...


def cache_bytes(config: PretrainedConfig, dtype: torch.dtype) -> int:
    """Bytes of keys and values that one position takes in all layers."""
    size: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    layers: int = config.num_hidden_layers
    kv_heads: int = config.num_key_value_heads
    return 2 * layers * kv_heads * size * dtype.itemsize


class TransformersRunner:
    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.hooks = LoraHooks(model)
        self.context_length: int = model.config.max_position_embeddings
        self.token_bytes = cache_bytes(model.config, model.dtype)

    def read_adapter(self, directory: Path) -> Adapter:
        adapter = read_adapter(directory, self.model.dtype, self.model.device)
        check_fit(adapter, self.hooks.sizes, directory)
        return adapter

    def new_batch(self) -> "TransformersBatch":
        return TransformersBatch(self, DynamicCache(config=self.model.config))


class TransformersBatch:
    def __init__(self, runner: TransformersRunner, cache: DynamicCache) -> None:
        self._runner = runner
        self._cache = cache

    def forward(self, ids_BT: Tensor, adapter: Adapter | None) -> Tensor:
        self._runner.hooks.active = adapter
        try:
            output = self._runner.model(input_ids=ids_BT, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        finally:
            self._runner.hooks.active = None
        logits_BV: Tensor = output.logits[:, -1].float()
        return logits_BV

    def repeat(self, rows: int) -> "TransformersBatch":
        copy = DynamicCache(config=self._runner.model.config)
        for index, layer in enumerate(self._cache.layers):
            copy.update(layer.keys.repeat_interleave(rows, dim=0), layer.values.repeat_interleave(rows, dim=0), index)
        return TransformersBatch(self._runner, copy)

    def keep(self, rows: Sequence[int]) -> None:
        self._cache.batch_select_indices(torch.tensor(rows))
