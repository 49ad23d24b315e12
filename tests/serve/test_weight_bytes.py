"""What a base is taken to need, beside what is packed."""

import json
from pathlib import Path
from typing import Literal

import numpy
import pytest
from safetensors.numpy import save_file

from tunesmith.families.array_panels import narrowest, panel_bytes
from tunesmith.serve.weight_bytes import weight_bytes
from tunesmith.settings import Settings

VOCABULARY, OUTPUTS = 48, 64
SIZES = ("max_position_embeddings", "intermediate_size", "num_hidden_layers", "num_attention_heads")


@pytest.mark.parametrize("hidden", [256, 320])  # whole blocks of 4 bits, and not
@pytest.mark.parametrize("width", ["int8", "int4"])
def test_rounded_weights_are_counted_as_they_are_packed(
    width: Literal["int8", "int4"], hidden: int, tmp_path: Path
) -> None:
    """The output layer, which is the embedding here, keeps 8 bits."""
    embedding, linear = (numpy.zeros((outs, hidden), numpy.float32) for outs in (VOCABULARY, OUTPUTS))
    save_file(
        {"model.embed_tokens.weight": embedding, "model.layers.0.mlp.up_proj.weight": linear},
        tmp_path / "model.safetensors",
    )
    config = {"vocab_size": VOCABULARY, "hidden_size": hidden, **dict.fromkeys(SIZES, 1)}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **config}), "utf-8")
    packed = panel_bytes([linear], narrowest(hidden, width, "float32")) + panel_bytes([embedding], "int8")
    assert weight_bytes(tmp_path, Settings(data_dir=tmp_path, serve_weights=width)) == packed
