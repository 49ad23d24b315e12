"""What a base's config.json says of its text model.

A base that also takes images or sound has a config for each part, and leaves out what is as its family has it.
"""

import json
from pathlib import Path

from tunesmith.jsonvalue import JsonObject

TEXT = "text_config"
# What the memory plan, the work estimate and the engine read of every base.
SIZES = ("max_position_embeddings", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")


def text_values(config: JsonObject) -> JsonObject:
    """The config of the text model in that of a whole base."""
    part = config.get(TEXT)
    return part if isinstance(part, dict) else config


def embedding_rows(config: JsonObject) -> int | None:
    """How many token ids the text model takes; None where the file is silent."""
    rows = text_values(config).get("vocab_size")
    return rows if type(rows) is int and rows > 0 else None


def read_text_config(directory: Path) -> JsonObject:
    """The text model's config with all of `SIZES`.

    What the file leaves out is asked of transformers.
    """
    config: JsonObject = json.loads((directory / "config.json").read_text("utf-8"))
    values = text_values(config)
    if all(name in values for name in SIZES):
        return values
    from transformers import AutoConfig

    whole = AutoConfig.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
    return {**whole.get_text_config().to_dict(), **values}
