"""What a base takes in memory when it is served, told before it is loaded."""

from pathlib import Path
from typing import cast

from tunesmith.families.blocks.kinds import K_BLOCK
from tunesmith.families.config_file import read_text_config
from tunesmith.models.facts import (
    FLOAT32_BYTES,
    QUANTISED_BYTES,
    block_bytes,
    compiled_width,
    count_text_parameters,
)
from tunesmith.settings import Settings


def weight_bytes(base_dir: Path, settings: Settings) -> int:
    """The bytes of a base's weights, in the format in which these settings load it."""
    parameters = count_text_parameters(base_dir)
    if not settings.serve_compiled:
        return FLOAT32_BYTES * parameters
    if settings.serve_weights not in ("float32", "float16") and (in_blocks := block_bytes(base_dir, parameters)):
        return in_blocks
    if settings.serve_weights in QUANTISED_BYTES:
        return _quantised_bytes(base_dir, parameters, settings.serve_weights)
    narrow = settings.serve_weights == "auto" and compiled_width(base_dir) != "float32"
    return (FLOAT32_BYTES // 2 if narrow else FLOAT32_BYTES) * parameters


def _quantised_bytes(base_dir: Path, parameters: int, width: str) -> int:
    """Layers as the width says, the output layer in 8 bits; of the embedding, which stays in its file, few rows."""
    config = read_text_config(base_dir)
    vocabulary, hidden = (cast(int, config.get(name) or 0) for name in ("vocab_size", "hidden_size"))
    layers = max(parameters - vocabulary * hidden, 0)
    whole = "int8" if hidden % K_BLOCK else width  # as `families.array_panels` chooses, which imports numba
    return round(QUANTISED_BYTES[whole] * layers + QUANTISED_BYTES["int8"] * (parameters - layers))
