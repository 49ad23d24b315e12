"""A base model in memory: weights from safetensors, memory-mapped, never with foreign code."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.errors import InvalidRequest
from tunesmith.settings import Quantization

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def load_model(
    directory: Path, dtype: "torch.dtype", device: str = "cpu", quantization: Quantization = "none"
) -> "PreTrainedModel":
    """The base in `directory` as a frozen transformers model in eval mode.

    On a CPU with weights stored in `dtype` the tensors are views of the mapped file: loading costs no second copy,
    and processes that load the same base share its pages. `quantization`: InvalidRequest where it cannot be had.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    if quantization == "nf4":
        return _load_nf4(directory, dtype)
    model = AutoModelForCausalLM.from_pretrained(
        directory, dtype=dtype, use_safetensors=True, trust_remote_code=False, local_files_only=True
    )
    model.requires_grad_(False)
    return model.to(device).eval()


def require_nf4(*, cuda: bool | None = None) -> None:
    """Raises InvalidRequest saying what is missing. `cuda` None: not asked for, since that takes an import of torch."""
    missing = []
    if cuda is False:
        missing.append("no CUDA GPU that PyTorch can use")
    if importlib.util.find_spec("bitsandbytes") is None:
        missing.append("no package bitsandbytes (pip install 'tunesmith[qlora]')")
    if missing:
        raise InvalidRequest(
            "quantization is 'nf4', which needs an NVIDIA GPU and bitsandbytes; this machine has "
            f"{' and '.join(missing)}. Leave 'quantization' out to train a LoRA beside the base as it is.",
            param="tunesmith.quantization",
            code="quantization_not_available",
        )


def _load_nf4(directory: Path, dtype: "torch.dtype") -> "PreTrainedModel":
    """QLoRA's base (Dettmers et al., 2023, arXiv:2305.14314). Never run on a GPU by us, once on a CPU."""
    import torch

    require_nf4(cuda=torch.cuda.is_available())
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    model = AutoModelForCausalLM.from_pretrained(
        directory,
        dtype=dtype,
        quantization_config=config,
        device_map={"": 0},
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
    )
    model.requires_grad_(False)
    return model.eval()
