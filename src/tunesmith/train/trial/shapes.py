"""Models of real shapes with random weights, and random batches."""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from tunesmith.train.core.batches import Batch, Example
from tunesmith.train.core.device import Device
from tunesmith.train.core.packing import TokenRow

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
)
RESERVED = 10  # ids that a tokenizer may use for its own marks


@dataclass(frozen=True, slots=True)
class Shape:
    """A model's sizes, and those of the batch that it is tried with."""

    family: str  # llama or qwen3
    sizes: dict[str, int]
    rows: int
    shared: int  # tokens that all rows begin with
    own: int  # more tokens of each row, in the mean

    @property
    def parameters(self) -> int:
        """About how many weights it has, without norms."""
        size = self.sizes
        hidden, inner, heads = size["hidden_size"], size["intermediate_size"], size["head_dim"]
        attention = 2 * hidden * heads * (size["num_attention_heads"] + size["num_key_value_heads"])
        return size["num_hidden_layers"] * (attention + 3 * hidden * inner) + 2 * size["vocab_size"] * hidden


def _shape(family: str, sizes: tuple[int, ...], rows: int, shared: int, own: int) -> Shape:
    names = (
        "hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim vocab_size"
    )
    return Shape(family, dict(zip(names.split(), sizes, strict=True)), rows, shared, own)


# Sizes as the configs of Qwen3-0.6B, Qwen3-1.7B and Llama-3.1-8B have them.
SHAPES = {
    "tiny": _shape("llama", (64, 96, 2, 4, 2, 16, 128), 6, 20, 12),
    "0.6B": _shape("qwen3", (1024, 3072, 28, 16, 8, 128, 151_936), 64, 200, 300),
    "1.7B": _shape("qwen3", (2048, 6144, 28, 16, 8, 128, 151_936), 64, 200, 300),
    "8B": _shape("llama", (4096, 14_336, 32, 32, 8, 128, 128_256), 32, 200, 300),
}
REAL = ("0.6B", "1.7B", "8B")


def build(shape: Shape, device: Device, dtype: torch.dtype | None = None) -> "PreTrainedModel":
    """The shape with random weights, frozen, in eval mode."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(shape.family, **shape.sizes, tie_word_embeddings=False)
    torch.manual_seed(0)
    with torch.device(device.name):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype or device.dtype)
    model.requires_grad_(False)
    return model.eval()


def load(directory: Path, device: Device) -> "PreTrainedModel":
    """A base from its directory, in the device's format."""
    from tunesmith.models.weights import load_model

    return load_model(directory, device.dtype, device.name)


def batch(shape: Shape, vocabulary: int, step: int = 1) -> Batch:
    """Rows with a common beginning; the second half of the rest is learned."""
    draw = random.Random(step)

    def ids(count: int) -> tuple[int, ...]:
        return tuple(draw.randrange(RESERVED, vocabulary) for _ in range(count))

    common, examples = ids(shape.shared), []
    for line in range(1, shape.rows + 1):
        own = ids(draw.randint(shape.own // 2, shape.own + shape.own // 2))
        learned = len(own) // 2
        row = TokenRow((*common, *own), (0.0,) * (shape.shared + len(own) - learned) + (1.0,) * learned, line)
        examples.append(Example(line, (row,), len(row.ids)))
    return Batch(step, 1, False, tuple(examples))
