"""The forward pass that an engine drives: tokens of several sequences in, logits out, keys and values kept in slots.

`TransformersRunner` runs any causal model that transformers knows.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeAlias, cast

import torch
from torch import Tensor
from transformers import DynamicCache, PretrainedConfig, PreTrainedModel

from tunesmith.families.layout import head_size
from tunesmith.serve.engine.scheduler import Feed
from tunesmith.serve.engine.slots import Storage
from tunesmith.serve.local.adapter_panels import PanelAdapter
from tunesmith.serve.local.adapters import Adapter, LoraHooks, check_fit, read_adapter

AnyAdapter: TypeAlias = Adapter | PanelAdapter  # each runner is given back what its own `read_adapter` made


class Runner(Storage, Protocol):
    context_length: int
    token_bytes: int  # keys and values of one position
    rewinds: bool  # keys and values can be cut at any position

    def read_adapter(self, directory: Path) -> AnyAdapter: ...

    def forward(self, feeds: Sequence[Feed[AnyAdapter]]) -> Tensor:
        """The wanted logits of all feeds [sum of `logits`, V], in float32."""
        ...


def cache_bytes(config: PretrainedConfig, dtype: torch.dtype) -> int:
    """Bytes of keys and values that one position takes in all layers."""
    size = head_size(config)
    layers: int = config.num_hidden_layers
    kv_heads: int = config.num_key_value_heads
    return 2 * layers * kv_heads * size * dtype.itemsize


class TransformersRunner:
    """One sequence after the other: the model's own code knows no batch of different adapters and lengths."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.hooks = LoraHooks(model)
        config = model.config.get_text_config()
        self.context_length: int = config.max_position_embeddings
        self.token_bytes = cache_bytes(config, model.dtype)
        kinds = getattr(config, "layer_types", None) or ()
        windowed = getattr(config, "sliding_window", None) and not kinds
        self.rewinds = not windowed and all(kind == "full_attention" for kind in kinds)
        self._caches: dict[int, DynamicCache] = {}

    def read_adapter(self, directory: Path) -> Adapter:
        adapter = read_adapter(directory, self.model.dtype, self.model.device)
        check_fit(adapter, self.hooks.sizes, directory)
        return adapter

    def forward(self, feeds: Sequence[Feed[AnyAdapter]]) -> Tensor:
        return torch.cat([self._one(feed) for feed in feeds])

    def copy(self, source: int, target: int, length: int) -> None:
        copy = DynamicCache(config=self.model.config)
        for index, layer in enumerate(self._caches[source].layers):
            copy.update(layer.keys[:, :, :length].clone(), layer.values[:, :, :length].clone(), index)
        self._caches[target] = copy

    def release(self, slot: int) -> None:
        self._caches.pop(slot, None)

    def _one(self, feed: Feed[AnyAdapter]) -> Tensor:
        if feed.start == 0:
            self._caches[feed.slot] = DynamicCache(config=self.model.config)
        cache = self._caches[feed.slot]
        beyond = cache.get_seq_length() - feed.start
        if beyond > 0:
            cache.crop(-beyond)
        self.hooks.active = cast(Adapter | None, feed.adapter)
        try:
            output = self.model(
                input_ids=torch.tensor([feed.ids]),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=max(1, feed.logits),
            )
        finally:
            self.hooks.active = None
        logits_LV: Tensor = output.logits[0, output.logits.shape[1] - feed.logits :].float()
        return logits_LV
