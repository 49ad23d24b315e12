"""Any causal language model that transformers has, by its own modules."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from numpy import float32
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import CacheLayerMixin, DynamicLayer

from tunesmith.serve.engine.model import SequenceChunk
from tunesmith.serve.local.adapters import check_fit, read_adapter
from tunesmith.serve.local.lora_hooks import LoraHooks, TorchAdapter, to_torch
from tunesmith.serve.local.runner import AnyAdapter


class TransformersRunner:
    """A `Runner` of transformers' own code, one sequence at a time.

    That code cannot batch different adapters and lengths.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.hooks = LoraHooks(model)
        config = model.config.get_text_config()
        self.context_length: int = config.max_position_embeddings
        self.vocabulary = len(cast(Tensor, model.get_input_embeddings().weight))
        layers = _one_token(model).layers
        # Measured: families differ in heads and sizes by layer, share keys, or have states instead.
        self.token_bytes = max(1, sum(map(_key_value_bytes, layers)))
        self.rewinds = all(type(layer) is DynamicLayer for layer in layers)
        self._caches: dict[int, DynamicCache] = {}

    def read_adapter(self, directory: Path) -> TorchAdapter:
        """Reads an adapter and checks that it fits the base."""
        adapter = read_adapter(directory)
        check_fit(adapter, self.hooks.sizes, directory)
        return to_torch(adapter, self.model.dtype, self.model.device)

    def forward(self, chunks: Sequence[SequenceChunk[AnyAdapter]], threads: int = 1) -> NDArray[float32]:
        """The requested logits of all chunks [L, V], in the chunks' order."""
        torch.set_num_threads(threads)  # of the calling thread, the engine's
        with torch.inference_mode():
            logits: NDArray[float32] = torch.cat([self._one(chunk) for chunk in chunks]).numpy()
        return logits

    @torch.inference_mode()
    def copy(self, source: int, target: int, length: int) -> None:
        """Copies the first `length` positions of one slot to another."""
        copy = DynamicCache(config=self.model.config)
        for index, layer in enumerate(self._caches[source].layers):
            if layer.is_initialized:  # others take the keys of an earlier layer
                copy.update(layer.keys[:, :, :length].clone(), layer.values[:, :, :length].clone(), index)
        self._caches[target] = copy

    def clear(self, slot: int) -> None:
        """Empties a slot and frees its memory."""
        self._caches.pop(slot, None)

    def _one(self, chunk: SequenceChunk[AnyAdapter]) -> Tensor:
        if chunk.start == 0:
            self._caches[chunk.slot] = DynamicCache(config=self.model.config)
        cache = self._caches[chunk.slot]
        beyond = cache.get_seq_length() - chunk.start
        if beyond > 0:
            cache.crop(-beyond)
        self.hooks.active = cast(TorchAdapter | None, chunk.adapter)
        try:
            output = self.model(
                input_ids=torch.tensor([chunk.ids]),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=max(1, chunk.logits),
            )
        finally:
            self.hooks.active = None
        logits_LV: Tensor = output.logits[0, output.logits.shape[1] - chunk.logits :].float()
        return logits_LV


def _one_token(model: PreTrainedModel) -> DynamicCache:
    """What the model keeps after one token."""
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        model(input_ids=torch.tensor([[0]]), past_key_values=cache, use_cache=True)
    return cache


def _key_value_bytes(layer: CacheLayerMixin) -> int:
    tensors = (getattr(layer, name, None) for name in ("keys", "values"))
    return sum(tensor.nbytes for tensor in tensors if isinstance(tensor, Tensor))
