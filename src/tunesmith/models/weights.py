"""A base model in memory: weights from safetensors, memory-mapped, never with foreign code."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def load_model(directory: Path, dtype: "torch.dtype", device: str = "cpu") -> "PreTrainedModel":
    """The base in `directory` as a frozen transformers model in eval mode.

    On a CPU with weights stored in `dtype` the tensors are views of the mapped file: loading costs no second copy,
    and processes that load the same base share its pages.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(
        directory, dtype=dtype, use_safetensors=True, trust_remote_code=False, local_files_only=True
    )
    model.requires_grad_(False)
    return model.to(device).eval()
