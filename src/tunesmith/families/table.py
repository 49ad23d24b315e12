"""Which model families run as compiled code, and why the others do not.

A family that is not compiled is trained and served through transformers' own modules: slower, with the same results.
`docs/families.md` says which path each takes; it is made by running them.
Imports neither torch nor transformers.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from tunesmith.families.layout import ATTENTION_INPUTS, FOUR_NORMS, GLM_NORMS, POST_NORMS, Layout

if TYPE_CHECKING:
    from transformers import PretrainedConfig

Use: TypeAlias = Literal["training", "serving"]

FULL_ATTENTION, SLIDING_ATTENTION = "full_attention", "sliding_attention"
# The angles of a position are always the same, or one of two; the others depend on the length of the sequence.
ROTATIONS = ("default", "linear", "llama3", "yarn", "longrope")
ACTIVATIONS = ("silu", "gelu_pytorch_tanh")


@dataclass(frozen=True, slots=True)
class FileForm:
    """What a base of the family has in its files.

    By this `families.served_shape` reads them without transformers.
    """

    needs: tuple[str, ...] = ()  # keys of config.json whose defaults are other than none
    head_norms: bool = False
    bias: tuple[str, ...] = ()  # modules of a layer that have one, whatever the config says
    bias_keys: tuple[str, ...] = ()  # of the config: whether attention and MLP have one


@dataclass(frozen=True, slots=True)
class Family:
    """One of transformers' model types, whose paths our tests compare with its own.

    A gap is the reason why it is neither trained nor served by compiled code; None: it is both.
    """

    title: str
    gap: str | None = None
    recurrent: bool = False  # some layers keep a state instead of keys and values: rows cannot share a prefix
    layout: Layout = field(default_factory=Layout)
    files: FileForm | None = None  # None: transformers is asked what a base is


def _recurrent(title: str) -> Family:
    return Family(title, "some of its layers have a running state instead of keys and values", recurrent=True)


EXPERTS = "it is a mixture of experts"
PART_ROTATED = "a part of each head is not rotated"
FAMILIES = {
    "apertus": Family("Apertus", "its MLP has no gate"),
    "arcee": Family("Arcee", "its MLP has no gate"),
    "cohere": Family("Command R", "its norms subtract the mean, and its logits are scaled"),
    "cohere2": Family("Command R7B, Command A", "its norms subtract the mean, and its logits are scaled"),
    "deepseek_v2": Family("DeepSeek V2", f"{EXPERTS} with latent attention"),
    "deepseek_v3": Family("DeepSeek V3", f"{EXPERTS} with latent attention"),
    "ernie4_5": Family("ERNIE 4.5", layout=Layout(neighbours=True)),
    "ernie4_5_moe": Family("ERNIE 4.5 MoE", EXPERTS),
    "exaone4": Family("EXAONE 4", layout=Layout(POST_NORMS, only_windows_rotate=True)),
    "falcon_h1": _recurrent("Falcon H1"),
    "gemma": Family("Gemma", layout=Layout(norm_offset=1.0)),
    "gemma2": Family("Gemma 2", layout=Layout(FOUR_NORMS, norm_offset=1.0, capped_scores=True)),
    "gemma3_text": Family("Gemma 3", layout=Layout(FOUR_NORMS, norm_offset=1.0)),
    "gemma3n_text": Family("Gemma 3n", "each token has four streams of values, and its layers inputs of their own"),
    "gemma4_text": Family("Gemma 4", "its layers have heads of different sizes"),
    "glm": Family("GLM 4 9B", layout=Layout(neighbours=True)),
    "glm4": Family("GLM 4 0414", layout=Layout(GLM_NORMS, neighbours=True)),
    "glm4_moe": Family("GLM 4.5", f"{EXPERTS}, and {PART_ROTATED}"),
    "gpt_neox": Family("GPT-NeoX", "its MLP has no gate"),
    "gpt_oss": Family("GPT-OSS", f"{EXPERTS} with attention sinks"),
    "granite": Family("Granite 3"),
    "granitemoe": Family("Granite 3 MoE", EXPERTS),
    "granitemoehybrid": _recurrent("Granite 4"),
    "hunyuan_v1_dense": Family("Hunyuan", "its queries and keys are normed after they are rotated"),
    "hunyuan_v1_moe": Family("Hunyuan MoE", EXPERTS),
    "lfm2": _recurrent("LFM2"),
    "lfm2_moe": _recurrent("LFM2 MoE"),
    "llama": Family("Llama", files=FileForm(bias_keys=("attention_bias", "mlp_bias"))),
    "llama4_text": Family("Llama 4", EXPERTS),
    "minicpm3": Family("MiniCPM 3", "its attention is latent"),
    "minimax_m2": Family("MiniMax M2", f"{EXPERTS}, and {PART_ROTATED}"),
    "ministral": Family("Ministral 8B"),
    "ministral3": Family("Ministral 3", "its queries are scaled by their position"),
    "mistral": Family("Mistral", layout=Layout(windowed=True), files=FileForm(needs=("sliding_window",))),
    "mixtral": Family("Mixtral", EXPERTS),
    "nemotron": Family("Nemotron 4, Minitron", PART_ROTATED),
    "nemotron_h": _recurrent("Nemotron H"),
    "olmo": Family("OLMo", "its norms have no weight, and its queries, keys and values are clipped"),
    "olmo2": Family("OLMo 2", layout=Layout(POST_NORMS)),
    "olmo3": Family("OLMo 3", layout=Layout(POST_NORMS)),
    "olmoe": Family("OLMoE", EXPERTS),
    "phi": Family("Phi 1.5, Phi 2", PART_ROTATED),
    "phi3": Family("Phi-3, Phi-4", layout=Layout(windowed=True)),
    "phimoe": Family("Phi-3.5 MoE", EXPERTS),
    "qwen2": Family("Qwen2", files=FileForm(bias=ATTENTION_INPUTS)),
    "qwen2_moe": Family("Qwen2 MoE", EXPERTS),
    "qwen3": Family("Qwen3", files=FileForm(needs=("head_dim",), head_norms=True, bias_keys=("attention_bias",))),
    "qwen3_5_moe_text": _recurrent("Qwen3.5 MoE"),
    "qwen3_5_text": _recurrent("Qwen3.5"),
    "qwen3_moe": Family("Qwen3 MoE", EXPERTS),
    "qwen3_next": _recurrent("Qwen3-Next"),
    "seed_oss": Family("Seed-OSS"),
    "smollm3": Family("SmolLM3"),
    "stablelm": Family("StableLM", PART_ROTATED),
    "starcoder2": Family("StarCoder 2", "its MLP has no gate"),
}
WHOLES = {  # bases that also take images or sound, whose text model is of a family above
    "gemma3": "Gemma 3 (4B and larger)",
    "gemma4": "Gemma 4",
    "llama4": "Llama 4",
    "mistral3": "Mistral Small 3, Ministral 3",
    "qwen2_5_vl": "Qwen2.5-VL",
    "qwen3_5": "Qwen3.5",
    "qwen3_5_moe": "Qwen3.5 MoE",
    "qwen3_vl": "Qwen3-VL",
    "qwen3_vl_moe": "Qwen3-VL MoE",
}
STAND_INS = {  # text models of transformers that have no causal model of their own -> the family that computes the same
    "qwen2_5_vl_text": "qwen2",
    "qwen3_vl_text": "qwen3",
    "qwen3_vl_moe_text": "qwen3_moe",
}


def family_gap(model_type: str) -> str | None:
    """Why the family `model_type` has no compiled code; None where it has."""
    family = FAMILIES.get(model_type)
    return f"the family {model_type} is not known" if family is None else family.gap


def compiled_gap(config: "PretrainedConfig", use: Use) -> str | None:
    """Why compiled code does not compute a model of this config; None where it does."""
    gap = family_gap(config.model_type) or _activation_gap(config) or _attention_gap(config)
    return gap or (_training_gap(config) if use == "training" else _serving_gap(config))


def activation(config: "PretrainedConfig") -> str:
    """The name of what the gate of the MLP goes through."""
    return str(getattr(config, "hidden_activation", None) or config.hidden_act)


def windows(config: "PretrainedConfig", longest: int | None = None) -> list[int]:
    """How many positions a token sees in each layer, its own included; 0: all.

    A window that no sequence fills is none. `longest`: tokens of the longest; None: what the config allows.
    """
    window = getattr(config, "sliding_window", None) or 0
    if window >= (longest or getattr(config, "max_position_embeddings", None) or window + 1):
        window = 0
    kinds = getattr(config, "layer_types", None)
    if kinds:
        return [window if kind == SLIDING_ATTENTION else 0 for kind in kinds]
    family = FAMILIES.get(config.model_type)
    return [window if family and family.layout.windowed else 0] * getattr(config, "num_hidden_layers", 1)


def _activation_gap(config: "PretrainedConfig") -> str | None:
    name = activation(config)
    return None if name in ACTIVATIONS else f"its activation is {name}, not SiLU or GELU with tanh"


def _attention_gap(config: "PretrainedConfig") -> str | None:
    if any(kind not in (FULL_ATTENTION, SLIDING_ATTENTION) for kind in getattr(config, "layer_types", None) or ()):
        return "not every layer has full attention"
    return "its tokens see those that follow" if getattr(config, "use_bidirectional_attention", None) else None


def _training_gap(config: "PretrainedConfig") -> str | None:
    return "attention scores have dropout" if getattr(config, "attention_dropout", 0.0) else None


def _serving_gap(config: "PretrainedConfig") -> str | None:
    other = next((kind for kind in _rotation_kinds(config) if kind not in ROTATIONS), None)
    return None if other is None else f"its rotary embedding is of the kind {other}"


def _rotation_kinds(config: "PretrainedConfig") -> Iterator[str]:
    """Of the rotary embedding, or of that of each type of layer."""
    rope = getattr(config, "rope_parameters", None) or {}
    by_layer = [of_type for of_type in rope.values() if isinstance(of_type, dict)]
    for parameters in by_layer or [rope]:
        kind = parameters.get("rope_type", "default")
        yield f"{kind} by layer" if by_layer and kind == "longrope" else kind
