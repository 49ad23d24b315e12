"""Embeds texts by a model on this machine.

A text's embedding is the mean of the last layer over its tokens, or its first token's where the folder says so, brought
to length 1. A longer text than the model reads is cut.

Not covered: prompts that some models want before a text.
"""

from functools import lru_cache
from pathlib import Path
from threading import Lock

import torch
from transformers import AutoModel, AutoTokenizer

from tunesmith.serve.embeddings.layout import read_layout, unusable

MOST_TOKENS = 8192  # where neither tokenizer nor model says how much it reads


class Embedder:
    """One embedding model in memory. Thread-safe: one text after the other."""

    def __init__(self, directory: Path) -> None:
        """Loads the model. Raises ServerFault for a folder that holds none."""
        self._layout = layout = read_layout(directory)
        local: dict[str, bool] = {"local_files_only": True, "trust_remote_code": False}
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(layout.transformer, **local)
            model = AutoModel.from_pretrained(layout.transformer, dtype=torch.float32, use_safetensors=True, **local)
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).partition("\n")[0][:200]
            raise unusable(directory, f"it cannot be loaded ({reason})") from error
        self._model = model.eval()
        reads = [
            layout.max_tokens,
            self._tokenizer.model_max_length,
            getattr(model.config, "max_position_embeddings", 0),
        ]
        self._most = min((one for one in reads if one), default=MOST_TOKENS)
        self._lock = Lock()

    def cosine(self, text: str, reference: str, /) -> float:
        """The cosine of two texts' embeddings; 0 where it is negative."""
        with self._lock:
            one, other = self.vector(text), self.vector(reference)
        return min(1.0, max(0.0, float(one @ other)))

    @torch.inference_mode()
    def vector(self, text: str) -> torch.Tensor:
        """The embedding [hidden size], of length 1; zeros for a text without tokens."""
        if self._layout.lower_case:
            text = text.lower()
        ids = self._tokenizer(text, truncation=True, max_length=self._most, return_tensors="pt")
        if not ids["input_ids"].numel():
            return torch.zeros(self._model.config.hidden_size)
        hidden = self._model(**ids).last_hidden_state[0]
        pooled = hidden.mean(dim=0) if self._layout.pooling == "mean" else hidden[0]
        return torch.nn.functional.normalize(pooled, dim=0)


@lru_cache(maxsize=1)
def open_embedder(directory: Path) -> Embedder:
    """The model in `directory`, loaded once. Raises ServerFault."""
    return Embedder(directory)
