"""What a job may set for itself, with the defaults."""

import re
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator

AdapterKind: TypeAlias = Literal["lora", "none"]
Quantization: TypeAlias = Literal["none", "nf4", "int8", "int4"]
MatmulPrecision: TypeAlias = Literal["float32", "bfloat16"]
Schedule: TypeAlias = Literal["linear", "cosine", "constant"]
Sharding: TypeAlias = Literal["auto", "none", "full"]
MAX_ALPHA = 4096.0
DEVICES = r"auto|cpu|cuda(:[0-9]{1,2})?"
LORA_ONLY = ("lora_rank", "lora_alpha", "lora_dropout", "lora_targets", "quantization", "matmul_precision")
TARGET_SETS = ("all-linear", "attention", "mlp")


class TrainingOptions(BaseModel):
    """What decides the result of a training run besides OpenAI's hyperparameters.

    Each is a setting of the server, a job may have its own under the key `tunesmith`, and the trainer's spec holds them
    as one field. Their defaults are written here and nowhere else.
    """

    model_config = ConfigDict(frozen=True)

    adapter: AdapterKind = Field("lora", description="What is trained: LoRA beside a frozen base; none: all weights.")
    base_learning_rate: FiniteFloat = Field(2.5e-4, gt=0, le=1, description="What learning_rate_multiplier multiplies.")
    lora_rank: int = Field(16, ge=1, le=512, description="Rank of the LoRA adapters.")
    lora_alpha: FiniteFloat = Field(32.0, gt=0, le=MAX_ALPHA, description="LoRA scaling numerator (alpha / rank).")
    lora_dropout: FiniteFloat = Field(0.0, ge=0, lt=1, description="Dropout on the adapter's input.")
    lora_targets: str | list[str] = Field(
        "all-linear",
        description="Layers with LoRA: all-linear (but the output head), attention, mlp, or names: q_proj,v_proj.",
    )
    quantization: Quantization = Field(
        "none",
        description="Of the frozen base: int8 or int4 on a CPU; nf4 on CUDA with bitsandbytes only, not measured.",
    )
    matmul_precision: MatmulPrecision = Field(
        "float32",
        description="Of products with a bfloat16 base on a CPU; bfloat16 rounds activations, for AVX512-BF16 or AMX.",
    )
    schedule: Schedule = Field("linear", description="Learning rate after the warm-up: linear, cosine or constant.")
    warmup_ratio: FiniteFloat = Field(0.03, ge=0, le=1, description="Share of the steps in which the rate rises.")
    weight_decay: FiniteFloat = Field(0.0, ge=0, le=1, description="AdamW's, decoupled; matrices only.")
    max_grad_norm: FiniteFloat = Field(1.0, ge=0, le=1000, description="Longer gradients are clipped to it; 0: never.")

    @property
    def lora_scaling(self) -> float:
        """What the product of a LoRA's two matrices is multiplied by."""
        return self.lora_alpha / self.lora_rank

    @property
    def target_names(self) -> tuple[str, ...]:
        """`lora_targets` as names of layers, or as the name of one of `TARGET_SETS`."""
        return (self.lora_targets,) if isinstance(self.lora_targets, str) else tuple(self.lora_targets)

    @field_validator("lora_targets")
    @classmethod
    def _targets(cls, targets: str | list[str]) -> str | list[str]:
        """Accepts a set's name, a list of layer names, or `q_proj,v_proj` as environment and command line give it."""
        names = targets.split(",") if isinstance(targets, str) else targets
        names = list(dict.fromkeys(name.strip() for name in names))
        if len(names) == 1 and names[0] in TARGET_SETS:
            return names[0]
        if not 1 <= len(names) <= 64 or not all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", name) for name in names):
            raise ValueError(f"{targets!r} is neither one of {', '.join(TARGET_SETS)} nor a list of layers' names")
        return names
