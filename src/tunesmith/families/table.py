"""Which model families run as compiled code, and why the others do not.

A family that is not compiled is trained and served through transformers' own modules: slower, with the same results.
Imports neither torch nor transformers.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from transformers import PretrainedConfig

Use: TypeAlias = Literal["training", "serving"]

FULL_ATTENTION = "full_attention"
# The angles of a position are always the same; the others depend on the length of the sequence.
FIXED_ROTATIONS = ("default", "linear", "llama3", "yarn")


@dataclass(frozen=True, slots=True)
class Family:
    """One of transformers' model types.

    A gap is the reason why it is not compiled; None: it is.
    """

    title: str
    training_gap: str | None = None
    serving_gap: str | None = None

    def gap(self, use: Use) -> str | None:
        """Why the family has no compiled code for `use`; None where it has."""
        return self.training_gap if use == "training" else self.serving_gap


def _other(title: str, gap: str) -> Family:
    """A family that has no compiled code at all."""
    return Family(title, gap, gap)


FAMILIES = {
    "llama": Family("Llama"),
    "mistral": Family("Mistral"),
    "qwen2": Family("Qwen2"),
    "qwen3": Family("Qwen3"),
    "smollm3": Family(
        "SmolLM3",
        serving_gap="some of its layers have no rotary embedding, which the serving kernel applies in every layer",
    ),
    "gemma": _other("Gemma", "its norms multiply by 1 + weight, and its embeddings are scaled"),
    "gemma2": _other("Gemma 2", "its attention scores are soft-capped"),
    "gemma3_text": _other("Gemma 3", "its norms multiply by 1 + weight, and each layer has four"),
    "gpt_oss": _other("GPT-OSS", "it is a mixture of experts with attention sinks"),
    "olmo2": _other("OLMo 2", "its norms follow attention and MLP instead of preceding them"),
    "phi3": _other("Phi-3", "one matrix holds its queries, keys and values"),
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
