"""The names that PEFT gives to a LoRA's tensors, in files and here."""

PREFIX = "base_model.model."  # PEFT wraps a model twice
A_SUFFIX, B_SUFFIX = ".lora_A.weight", ".lora_B.weight"


def lora_a_name(path: str) -> str:
    """The name of the first factor [rank, in] of the linear layer at `path`.

    `path` is such as `model.layers.0.mlp.up_proj`.
    """
    return f"{PREFIX}{path}{A_SUFFIX}"


def lora_b_name(path: str) -> str:
    """The name of the second factor [out, rank] of the linear layer at `path`."""
    return f"{PREFIX}{path}{B_SUFFIX}"
