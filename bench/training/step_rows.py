"""Models of real shapes with random weights, and rows as long as those of `bench/train.py`, for measuring one step.

What a step takes depends on neither the weights nor which tokens there are, so no base is needed.
"""

import random
from types import ModuleType
from typing import TYPE_CHECKING

import torch
import transformers

from tunesmith.train.core.packing import ENOUGH_TOKENS, TokenRow, split

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tunesmith.train.adapters.lora import Adapter
    from tunesmith.train.paths.scoring import TreeScorer

RANK, ALPHA = 16, 32.0
MICRO_BATCH = 2048
SHAPES: dict[str, tuple[str, dict[str, int]]] = {  # all layers of the first; a few of the others, as layers are alike
    "smollm2-135m": ("Llama", {
        "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
        "num_key_value_heads": 3, "head_dim": 64, "vocab_size": 49152,
    }),
    "qwen3-0.6b": ("Qwen3", {
        "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 2, "num_attention_heads": 16,
        "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
    }),
    "llama3.2-1b": ("Llama", {
        "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 2, "num_attention_heads": 32,
        "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 128256,
    }),
    "gemma-3-270m": ("Gemma3Text", {  # five layers of six have a window of 512 tokens
        "hidden_size": 640, "intermediate_size": 2048, "num_hidden_layers": 6, "num_attention_heads": 4,
        "num_key_value_heads": 1, "head_dim": 256, "vocab_size": 262144, "sliding_window": 512,
    }),
    "gemma-3-1b": ("Gemma3Text", {
        "hidden_size": 1152, "intermediate_size": 6912, "num_hidden_layers": 6, "num_attention_heads": 4,
        "num_key_value_heads": 1, "head_dim": 256, "vocab_size": 262144, "sliding_window": 512,
    }),
    "olmo-2-1b": ("Olmo2", {
        "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 2, "num_attention_heads": 16,
        "num_key_value_heads": 16, "head_dim": 128, "vocab_size": 100352,
    }),
}  # fmt: skip
KINDS = ("shared-prompt", "instructions", "weather")


def random_model(shape: str, changes: dict[str, int] | None = None) -> "PreTrainedModel":
    """The same weights each time."""
    kind, sizes = SHAPES[shape]
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**sizes | (changes or {}), tie_word_embeddings=True)
    model: PreTrainedModel = transformers.AutoModelForCausalLM.from_config(config).eval()
    return model


def rows_of(kind: str, vocabulary: int) -> list[TokenRow]:
    """The rows of one step."""
    draw = random.Random(0)
    if kind == "shared-prompt":
        prompt = _ids(draw, 403, vocabulary)
        return [_row(prompt + _ids(draw, draw.randint(30, 67), vocabulary), 415) for _ in range(8)]
    if kind == "instructions":
        lengths = [min(32 + int(draw.lognormvariate(4.2, 0.7)), 600) for _ in range(8)]
        return [_row(_ids(draw, length, vocabulary), length // 2) for length in lengths]
    return [_row(_ids(draw, 94, vocabulary), 60)]


def micro_batches(rows: list[TokenRow]) -> list[list[TokenRow]]:
    """As a run divides a step."""
    return [[rows[index] for index in part] for part in split([(row,) for row in rows], MICRO_BATCH, ENOUGH_TOKENS)]


def scorer_of(package: ModuleType, model: "PreTrainedModel", *, both: bool) -> tuple["Adapter", "TreeScorer"]:
    """The adapter, and what scores rows by it, made by a package that is Tunesmith or an earlier version of it."""
    adapter = adapter_of(package, model)
    layers = package.train.paths.compiled.CompiledLayers(model, adapter, both)
    scorer = package.train.paths.scoring.TreeScorer(model, layers)
    scorer.pack_head()
    return adapter, scorer


def adapter_of(package: ModuleType, model: "PreTrainedModel") -> "Adapter":
    """A LoRA on all layers that does something."""
    options = package.settings.TrainingOptions(lora_rank=RANK, lora_alpha=ALPHA)
    adapter: Adapter = package.train.adapters.lora.attach(model, options, 0, model.get_output_embeddings())
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in adapter.layers.values():
            layer.lora_b.normal_(std=0.02, generator=generator)
    return adapter


def _ids(draw: random.Random, count: int, vocabulary: int) -> tuple[int, ...]:
    return tuple(draw.randrange(vocabulary) for _ in range(count))


def _row(ids: tuple[int, ...], prompt: int) -> TokenRow:
    return TokenRow(ids, (0.0,) * prompt + (1.0,) * (len(ids) - prompt))
