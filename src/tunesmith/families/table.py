"""Which model families run as compiled code, and why the others do not.

A family that is not compiled is trained and served through transformers' own modules: slower, with the same results.
`docs/families.md` says which path each takes; it is made by running them.
Imports neither torch nor transformers.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from tunesmith.families.layout import ATTENTION_INPUTS

if TYPE_CHECKING:
    from transformers import PretrainedConfig

Use: TypeAlias = Literal["training", "serving"]

FULL_ATTENTION = "full_attention"
# The angles of a position are always the same; the others depend on the length of the sequence.
FIXED_ROTATIONS = ("default", "linear", "llama3", "yarn")


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
    files: FileForm | None = None  # None: transformers is asked what a base is

    def gap(self, use: Use) -> str | None:
        """Why the family has no compiled code for `use`; None where it has."""
        return self.training_gap if use == "training" else self.serving_gap


def _other(title: str, gap: str) -> Family:
    """A family that has no compiled code at all."""
    return Family(title, gap, gap)


def _recurrent(title: str) -> Family:
    gap = "some of its layers have a running state instead of keys and values"
    return Family(title, gap, gap, recurrent=True)


EXPERTS = "it is a mixture of experts"
PART_ROTATED = "a part of each head is not rotated"
WINDOWS = "some of its layers attend to a window only"
FAMILIES = {
    "apertus": _other("Apertus", "its MLP has no gate"),
    "arcee": _other("Arcee", "its MLP has no gate"),
    "cohere": _other("Command R", "its norms subtract the mean, and its logits are scaled"),
    "cohere2": _other("Command R7B, Command A", "its norms subtract the mean, and its logits are scaled"),
    "deepseek_v2": _other("DeepSeek V2", f"{EXPERTS} with latent attention"),
    "deepseek_v3": _other("DeepSeek V3", f"{EXPERTS} with latent attention"),
    "ernie4_5": _other("ERNIE 4.5", "it rotates neighbouring values of a head"),
    "ernie4_5_moe": _other("ERNIE 4.5 MoE", EXPERTS),
    "exaone4": _other("EXAONE 4", "its norms follow attention and MLP instead of preceding them"),
    "falcon_h1": _recurrent("Falcon H1"),
    "gemma": _other("Gemma", "its norms multiply by 1 + weight, and its embeddings are scaled"),
    "gemma2": _other("Gemma 2", "its attention scores are soft-capped"),
    "gemma3_text": _other("Gemma 3", "its norms multiply by 1 + weight, and each layer has four"),
    "gemma3n_text": _other("Gemma 3n", "each token has four streams of values, and its layers inputs of their own"),
    "gemma4_text": _other("Gemma 4", "its layers have heads of different sizes"),
    "glm": _other("GLM 4 9B", PART_ROTATED),
    "glm4": _other("GLM 4 0414", PART_ROTATED),
    "glm4_moe": _other("GLM 4.5", f"{EXPERTS}, and {PART_ROTATED}"),
    "gpt_neox": _other("GPT-NeoX", "its MLP has no gate"),
    "gpt_oss": _other("GPT-OSS", f"{EXPERTS} with attention sinks"),
    "granite": _other("Granite 3", "its logits and residuals are scaled"),
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
    "ministral": _other("Ministral 8B", WINDOWS),
    "ministral3": _other("Ministral 3", "its queries are scaled by their position"),
    "mistral": Family("Mistral", files=FileForm(needs=("sliding_window",))),
    "mixtral": _other("Mixtral", EXPERTS),
    "nemotron": _other("Nemotron 4, Minitron", PART_ROTATED),
    "nemotron_h": _recurrent("Nemotron H"),
    "olmo": _other("OLMo", "its norms have no weight, and its queries, keys and values are clipped"),
    "olmo2": _other("OLMo 2", "its norms follow attention and MLP instead of preceding them"),
    "olmo3": _other("OLMo 3", "its norms follow attention and MLP instead of preceding them"),
    "olmoe": _other("OLMoE", EXPERTS),
    "phi": _other("Phi 1.5, Phi 2", PART_ROTATED),
    "phi3": _other("Phi-3, Phi-4", "one matrix holds its queries, keys and values"),
    "phimoe": _other("Phi-3.5 MoE", EXPERTS),
    "qwen2": Family("Qwen2", files=FileForm(bias=ATTENTION_INPUTS)),
    "qwen2_moe": _other("Qwen2 MoE", EXPERTS),
    "qwen3": Family("Qwen3", files=FileForm(needs=("head_dim",), head_norms=True, bias_keys=("attention_bias",))),
    "qwen3_5_moe_text": _recurrent("Qwen3.5 MoE"),
    "qwen3_5_text": _recurrent("Qwen3.5"),
    "qwen3_moe": _other("Qwen3 MoE", EXPERTS),
    "qwen3_next": _recurrent("Qwen3-Next"),
    "seed_oss": _other("Seed-OSS", "its attention scores have dropout in training"),
    "smollm3": Family(
        "SmolLM3",
        serving_gap="some of its layers have no rotary embedding, which the serving kernel applies in every layer",
    ),
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


def compiled_gap(config: "PretrainedConfig", use: Use) -> str | None:
    """Why compiled code does not compute a model of this config; None where it does."""
    return family_gap(config.model_type, use) or _architecture_gap(config) or _use_gap(config, use)


def _architecture_gap(config: "PretrainedConfig") -> str | None:
    """What neither the training kernel nor the serving one computes."""
    if config.hidden_act != "silu":
        return f"its activation is {config.hidden_act}, not SiLU"
    kinds = getattr(config, "layer_types", None) or ()
    windowed = config.model_type == "mistral" and config.sliding_window
    if windowed or any(kind != FULL_ATTENTION for kind in kinds):
        return "not every layer has full attention"
    return None


def _use_gap(config: "PretrainedConfig", use: Use) -> str | None:
    if use == "training":
        return "attention scores have dropout" if getattr(config, "attention_dropout", 0.0) else None
    rope = getattr(config, "rope_parameters", None) or {}
    kind = rope.get("rope_type", "default")
    return None if kind in FIXED_ROTATIONS else f"its rotary embedding is of the kind {kind}"
