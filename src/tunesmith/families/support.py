"""Whether a base can be tuned and served here at all, by its config.json alone.

Families that are not compiled (`table`) still run through transformers' own modules. What is refused here would fail in
the middle of a job, or train something that cannot answer.

What is not covered: whether the weights have the shapes that the config promises; loading them tells.
"""

import importlib.util
import re
from functools import cache
from pathlib import Path

from tunesmith.families.config_file import SIZES, text_values
from tunesmith.families.table import FAMILIES, WHOLES
from tunesmith.jsonvalue import JsonObject

OTHER_NAMES = {  # of families before Llama, which have another structure too
    "max_position_embeddings": ("n_positions", "n_ctx", "max_seq_len", "seq_length"),
    "hidden_size": ("n_embd", "d_model", "word_embed_proj_dim"),
    "intermediate_size": ("n_inner", "ffn_dim", "ffn_hidden_size", "d_ff"),
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("n_head", "n_heads", "num_heads"),
}
ATTENTION_KINDS = ("full_attention", "sliding_attention", "chunked_attention")
STATE_KEYS = re.compile(
    r"mamba_|ssm_|state_size$|linear_(num|conv|key|value)_|conv_L|lru_width$|rescale_every$|block_types$"
)
READABLE_FORMATS = ("mxfp4",)  # transformers unpacks it where it cannot compute with it
ENCODER = "it is an encoder, whose tokens see those that follow; only decoders are tuned here"
ENCODERS = (
    "bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert", "rembert",
    "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "xlm-roberta", "xlm-roberta-xl", "xmod",
)  # fmt: skip
NOT_TUNED = {
    **dict.fromkeys(ENCODERS, ENCODER),
    "cpmant": "it prepends tokens of its own to every text",
    "xlstm": "its layers keep a running state, which cannot be read in pieces",
    "gpt2": "it keeps the weights of its layers in Conv1D modules, which take no LoRA here",
}

WHOLES_NOT_TUNED = {
    "gemma3n": "transformers loads it with its vision tower only, which is in another library (timm). Take its text"
    " model alone, a directory of the family gemma3n_text",
}


def unsupported(config: JsonObject) -> str | None:
    """Why a base with this config.json cannot be tuned here; None where it can."""
    found = (rule(config) for rule in (_kind, _quantization, _family, _state, _sizes))
    return next((reason for reason in found if reason), None)


def _kind(config: JsonObject) -> str | None:
    """What the model is for: only decoders of text continue a text."""
    if config.get("model_type") in WHOLES:  # their text model is tuned
        return None
    whole = str(config.get("model_type"))
    if whole in WHOLES_NOT_TUNED:
        return f"the family {whole} is not supported: {WHOLES_NOT_TUNED[whole]}"
    names = config.get("architectures")
    architecture = str(names[0]) if isinstance(names, list) and names else ""
    if any(f"{sense}_config" in config for sense in ("vision", "audio", "vq")):
        return f"it also takes images or sound{_shown(architecture)}; only text models are tuned here"
    if config.get("is_encoder_decoder") is True:
        return f"it is an encoder-decoder{_shown(architecture)}; only decoders are tuned here"
    if architecture and not architecture.endswith(("ForCausalLM", "LMHeadModel")):
        return f"it does not generate text: its config.json says {architecture}, not …ForCausalLM"
    return None


def _quantization(config: JsonObject) -> str | None:
    """Weights in a packed format cannot be multiplied, or given a LoRA, as they are."""
    given = config.get("quantization_config") or config.get("quantization")
    if not given:
        return None
    method = str(given.get("quant_method") or "MLX's") if isinstance(given, dict) else str(given)
    if method in READABLE_FORMATS:
        return None
    return f"its weights are quantized ({method} format). Take the repository with the weights in 16 or 32 bits"


def _family(config: JsonObject) -> str | None:
    kind = str(config.get("model_type") or "")
    if not kind:
        return "its config.json has no model_type"
    known = causal_types() | frozenset(WHOLES)
    if kind in NOT_TUNED:
        return f"the family {kind} is not supported: {NOT_TUNED[kind]}"
    if kind in known or not causal_types():
        return None
    if config.get("auto_map"):
        return f"the family {kind} needs code from its repository, which is never run here"
    return f"the installed transformers has no text generation for the family {kind}"


def _state(config: JsonObject) -> str | None:
    """Layers with a running state instead of keys and values; what our tests have proven is known to work."""
    text = text_values(config)
    family = str(text.get("model_type"))
    if not is_recurrent(text) or (family in FAMILIES and FAMILIES[family].recurrent):
        return None
    other = _other_kinds(text)
    what = f" ({other[0]})" if other else ""
    return f"the family {family} has recurrent or convolutional layers{what}; only attention is supported"


def is_recurrent(config: JsonObject) -> bool:
    """Whether layers keep a running state.

    Then rows cannot share a prefix, nor can a sequence be cut.
    """
    return bool(_other_kinds(config)) or any(STATE_KEYS.match(key) for key in config)


def _other_kinds(config: JsonObject) -> list[str]:
    kinds = config.get("layer_types")
    return [str(kind) for kind in kinds if kind not in ATTENTION_KINDS] if isinstance(kinds, list) else []


def _sizes(config: JsonObject) -> str | None:
    if config.get("model_type") in FAMILIES or config.get("model_type") in WHOLES:
        return None  # what the file leaves out is as the family has it
    missing = [name for name in SIZES if not isinstance(config.get(name), int)]
    if not missing:
        return None
    instead = [other for name in missing for other in OTHER_NAMES[name] if other in config]
    has = f" (it has {', '.join(instead)}, as other families call them)" if instead else ""
    return f"the family {config.get('model_type')} is not supported: its config.json has no {', '.join(missing)}{has}"


def _shown(architecture: str) -> str:
    return f" ({architecture})" if architecture else ""


@cache
def causal_types() -> frozenset[str]:
    """The model types for which the installed transformers generates text.

    Read from its table as text, since importing it takes seconds. Empty where the table is not found: then every type
    is tried.
    """
    spec = importlib.util.find_spec("transformers")
    if spec is None or spec.origin is None:
        return frozenset()
    source = Path(spec.origin).parent / "models" / "auto" / "modeling_auto.py"
    if not source.is_file():
        return frozenset()
    table = re.search(
        r"^MODEL_FOR_CAUSAL_LM_MAPPING_NAMES = .*?^\)", source.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    return frozenset(re.findall(r'^\s+\("([^"]+)", ', table[0], re.MULTILINE)) if table else frozenset()
