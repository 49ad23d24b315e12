"""The names that PEFT gives to a LoRA's tensors, in files and here."""

PREFIX = "base_model.model."  # PEFT wraps a model twice
PART = "language_model"  # transformers' name for the text model, in every family that takes images too
A_SUFFIX, B_SUFFIX = ".lora_A.weight", ".lora_B.weight"


def lora_a_name(path: str) -> str:
    """The name of the first factor [rank, in] of the linear layer at `path`.

    `path` is such as `model.layers.0.mlp.up_proj`.
    """
    return f"{PREFIX}{path}{A_SUFFIX}"


def lora_b_name(path: str) -> str:
    """The name of the second factor [out, rank] of the linear layer at `path`."""
    return f"{PREFIX}{path}{B_SUFFIX}"


def own_path(stored: str) -> str:
    """What a base's text model calls the module that the whole base has at `stored`."""
    return ".".join(part for part in stored.split(".") if part != PART)
