"""How the positions of a GGUF model are rotated, as transformers' config says it.

Llama 3's stretched rotation is in the file as what each frequency is divided by, not as the four numbers that make it:
they are found again, and must give the file's. Source: llama.cpp's `convert_hf_to_gguf.py`, transformers'
`modeling_rope_utils.py`.
"""

import math

import numpy as np
from numpy.typing import NDArray

from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject
from tunesmith.models.gguf.gguf_model import GgufModel

LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
FACTORS, SHORT, LONG = "rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight"
EXACT = 1e-3  # of a factor: the file's are rounded


def rotation(model: GgufModel) -> JsonObject:
    """`rope_parameters` of config.json.

    Raises InvalidRequest for a kind that is not read.
    """
    plain: JsonObject = {"rope_type": "default", "rope_theta": model.number("rope.freq_base", 10_000.0)}
    found = _by_tensors(model)
    if found is not None:
        return plain | found
    kind, factor = model.text("rope.scaling.type"), model.number("rope.scaling.factor", 1.0)
    if factor == 1.0 or kind == "none":
        return plain
    if kind in ("", "linear"):
        return plain | {"rope_type": "linear", "factor": factor}
    if kind == "yarn":
        before = model.original_context
        return plain | {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": before}
    raise InvalidRequest(
        f"The GGUF file stretches its positions by the rule {kind!r}, which is not read. Use the model's Hugging Face"
        " directory instead."
    )


def _by_tensors(model: GgufModel) -> JsonObject | None:
    short, long = model.vector(SHORT), model.vector(LONG)
    if short is not None and long is not None:
        before = model.original_context
        return {
            "rope_type": "longrope",
            "short_factor": [float(one) for one in short],
            "long_factor": [float(one) for one in long],
            "original_max_position_embeddings": before,
        }
    factors = model.vector(FACTORS)
    return None if factors is None else _llama3(model, factors)


def _llama3(model: GgufModel, factors: NDArray[np.float32]) -> JsonObject:
    found: JsonObject = {"rope_type": "llama3", "factor": float(f"{float(factors.max()):.7g}"), **LLAMA3}
    theta, size = model.number("rope.freq_base", 10_000.0), model.integer("rope.dimension_count", model.head_size)
    if len(factors) != size // 2 or not np.allclose(factors, _factors(theta, size, float(factors.max())), rtol=EXACT):
        raise InvalidRequest(
            f"The GGUF file's {FACTORS} are not those of Llama 3's rotation. Use the model's Hugging Face directory"
            " instead."
        )
    return found


def _factors(theta: float, size: int, factor: float) -> NDArray[np.float64]:
    """What Llama 3 divides each frequency by."""
    waves = 2 * math.pi * theta ** (np.arange(0, size, 2, dtype=np.float64) / size)
    low, high, context = LLAMA3["low_freq_factor"], LLAMA3["high_freq_factor"], 8192
    smooth = (context / waves - low) / (high - low)
    between = 1 / ((1 - smooth) / factor + smooth)
    return np.where(waves < context / high, 1.0, np.where(waves > context / low, factor, between))
