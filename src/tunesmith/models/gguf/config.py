"""config.json of the model in a GGUF file."""

from tunesmith.jsonvalue import JsonObject
from tunesmith.models.gguf.architectures import Architecture
from tunesmith.models.gguf.gguf_model import GgufModel
from tunesmith.models.gguf.rotation import rotation

IDS = {"bos": "bos", "eos": "eos", "pad": "padding"}  # transformers' name of a token -> GGUF's


def config(model: GgufModel, architecture: Architecture) -> JsonObject:
    """What transformers builds the model from."""
    own = architecture.own(model)
    rms: JsonObject = (
        {} if "norm_epsilon" in own else {"rms_norm_eps": model.precise("attention.layer_norm_rms_epsilon")}
    )
    return {
        "architectures": [architecture.model_class],
        "model_type": architecture.model_type,
        "vocab_size": model.vocabulary,
        "hidden_size": model.hidden,
        "intermediate_size": _inner(model),
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads,
        "head_dim": model.head_size,
        "max_position_embeddings": model.context,
        "rope_parameters": rotation(model),
        **rms,
        **own,
        "tie_word_embeddings": model.tied,
        **_ids(model),
        "dtype": "float32",
    }


def _inner(model: GgufModel) -> int:
    """Files of experts may leave out the width of the MLP that no layer has."""
    default = model.integer("expert_feed_forward_length") if model.integer("expert_count", 0) else None
    return model.integer("feed_forward_length", default)


def _ids(model: GgufModel) -> JsonObject:
    found = {f"{name}_token_id": model.metadata.get(f"tokenizer.ggml.{key}_token_id") for name, key in IDS.items()}
    return {name: value for name, value in found.items() if isinstance(value, int)} | (
        {} if isinstance(found["pad_token_id"], int) else {"pad_token_id": None}
    )
