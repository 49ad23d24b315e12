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
ACTIVATIONS: dict[Use, tuple[str, ...]] = {"training": ("silu",), "serving": ("silu", "gelu_pytorch_tanh")}


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

    A gap is the reason why it is not compiled; None: it is.
    """

    title: str
    training_gap: str | None = None
    serving_gap: str | None = None
    recurrent: bool = False  # some layers keep a state instead of keys and values: rows cannot share a prefix
    layout: Layout = field(default_factory=Layout)
    files: FileForm | None = None  # None: transformers is asked what a base is

    def gap(self, use: Use) -> str | None:
        """Why the family has no compiled code for `use`; None where it has."""
        return self.training_gap if use == "training" else self.serving_gap


def _other(title: str, gap: str) -> Family:
    """A family that has no compiled code at all."""
    return Family(title, gap, gap)


def _served(title: str, gap: str, layout: Layout = Layout()) -> Family:  # noqa: B008 (frozen)
    """A family that is served by compiled code, but trained by its own modules."""
    return Family(title, gap, None, layout=layout)


def _recurrent(title: str) -> Family:
    gap = "some of its layers have a running state instead of keys and values"
    return Family(title, gap, gap, recurrent=True)


EXPERTS = "it is a mixture of experts"
PART_ROTATED = "a part of each head is not rotated"
POSTERIOR = "its norms follow attention and MLP instead of preceding them"
WINDOWS = "some of its layers attend to a window"
FAMILIES = {
    "apertus": _other("Apertus", "its MLP has no gate"),
    "arcee": _other("Arcee", "its MLP has no gate"),
    "cohere": _other("Command R", "its norms subtract the mean, and its logits are scaled"),
    "cohere2": _other("Command R7B, Command A", "its norms subtract the mean, and its logits are scaled"),
    "deepseek_v2": _other("DeepSeek V2", f"{EXPERTS} with latent attention"),
    "deepseek_v3": _other("DeepSeek V3", f"{EXPERTS} with latent attention"),
    "ernie4_5": Family("ERNIE 4.5", layout=Layout(neighbours=True)),
    "ernie4_5_moe": _other("ERNIE 4.5 MoE", EXPERTS),
    "exaone4": _served("EXAONE 4", POSTERIOR, Layout(POST_NORMS, only_windows_rotate=True)),
    "falcon_h1": _recurrent("Falcon H1"),
    "gemma": _served(
        "Gemma", "its norms multiply by 1 + weight, and its embeddings are scaled", Layout(norm_offset=1.0)
    ),
    "gemma2": _served(
        "Gemma 2", "its attention scores are soft-capped", Layout(FOUR_NORMS, norm_offset=1.0, capped_scores=True)
    ),
    "gemma3_text": _served(
        "Gemma 3", "its norms multiply by 1 + weight, and each layer has four", Layout(FOUR_NORMS, norm_offset=1.0)
    ),
    "gemma3n_text": _other("Gemma 3n", "each token has four streams of values, and its layers inputs of their own"),
    "gemma4_text": _other("Gemma 4", "its layers have heads of different sizes"),
    "glm": Family("GLM 4 9B", layout=Layout(neighbours=True)),
    "glm4": _served("GLM 4 0414", "its norms follow attention and MLP too", Layout(GLM_NORMS, neighbours=True)),
    "glm4_moe": _other("GLM 4.5", f"{EXPERTS}, and {PART_ROTATED}"),
    "gpt_neox": _other("GPT-NeoX", "its MLP has no gate"),
    "gpt_oss": _other("GPT-OSS", f"{EXPERTS} with attention sinks"),
    "granite": Family("Granite 3"),
    "granitemoe": _other("Granite 3 MoE", EXPERTS),
    "granitemoehybrid": _recurrent("Granite 4"),
    "hunyuan_v1_dense": _other("Hunyuan", "its queries and keys are normed after they are rotated"),
    "hunyuan_v1_moe": _other("Hunyuan MoE", EXPERTS),
    "lfm2": _recurrent("LFM2"),
    "lfm2_moe": _recurrent("LFM2 MoE"),
    "llama": Family("Llama", files=FileForm(bias_keys=("attention_bias", "mlp_bias"))),
    "llama4_text": _other("Llama 4", EXPERTS),
    "minicpm3": _other("MiniCPM 3", "its attention is latent"),
    "minimax_m2": _other("MiniMax M2", f"{EXPERTS}, and {PART_ROTATED}"),
    "ministral": Family("Ministral 8B"),
    "ministral3": _other("Ministral 3", "its queries are scaled by their position"),
    "mistral": Family("Mistral", layout=Layout(windowed=True), files=FileForm(needs=("sliding_window",))),
    "mixtral": _other("Mixtral", EXPERTS),
    "nemotron": _other("Nemotron 4, Minitron", PART_ROTATED),
    "nemotron_h": _recurrent("Nemotron H"),
    "olmo": _other("OLMo", "its norms have no weight, and its queries, keys and values are clipped"),
    "olmo2": _served("OLMo 2", POSTERIOR, Layout(POST_NORMS)),
    "olmo3": _served("OLMo 3", POSTERIOR, Layout(POST_NORMS)),
    "olmoe": _other("OLMoE", EXPERTS),
    "phi": _other("Phi 1.5, Phi 2", PART_ROTATED),
    "phi3": Family("Phi-3, Phi-4", layout=Layout(windowed=True)),
    "phimoe": _other("Phi-3.5 MoE", EXPERTS),
    "qwen2": Family("Qwen2", files=FileForm(bias=ATTENTION_INPUTS)),
    "qwen2_moe": _other("Qwen2 MoE", EXPERTS),
    "qwen3": Family("Qwen3", files=FileForm(needs=("head_dim",), head_norms=True, bias_keys=("attention_bias",))),
    "qwen3_5_moe_text": _recurrent("Qwen3.5 MoE"),
    "qwen3_5_text": _recurrent("Qwen3.5"),
    "qwen3_moe": _other("Qwen3 MoE", EXPERTS),
    "qwen3_next": _recurrent("Qwen3-Next"),
    "seed_oss": Family("Seed-OSS"),
    "smollm3": Family("SmolLM3"),
    "stablelm": _other("StableLM", PART_ROTATED),
    "starcoder2": _other("StarCoder 2", "its MLP has no gate"),
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


def family_gap(model_type: str, use: Use) -> str | None:
    """Why the family `model_type` has no compiled code for `use`; None where it has."""
    family = FAMILIES.get(model_type)
    return f"the family {model_type} is not known" if family is None else family.gap(use)


def compiled_gap(config: "PretrainedConfig", use: Use, longest: int | None = None) -> str | None:
    """Why compiled code does not compute a model of this config; None where it does.

    `longest`: tokens of the longest row; None: not known.
    """
    gap = family_gap(config.model_type, use) or _activation_gap(config, use) or _attention_gap(config, use, longest)
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


def _activation_gap(config: "PretrainedConfig", use: Use) -> str | None:
    name = activation(config)
    known = "SiLU" if use == "training" else "SiLU or GELU with tanh"
    return None if name in ACTIVATIONS[use] else f"its activation is {name}, not {known}"


def _attention_gap(config: "PretrainedConfig", use: Use, longest: int | None) -> str | None:
    if any(kind not in (FULL_ATTENTION, SLIDING_ATTENTION) for kind in getattr(config, "layer_types", None) or ()):
        return "not every layer has full attention"
    window = max(windows(config, longest)) if use == "training" else 0
    if window:
        rows = f"has {longest}" if longest else "may have more"
        return f"{WINDOWS} of {window} tokens, and a row {rows}"
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
