"""Loads a base from memory-mapped safetensors, without running its code."""

import importlib.util
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.errors import InvalidRequest
from tunesmith.families.support import READABLE_FORMATS
from tunesmith.jsonvalue import JsonObject
from tunesmith.models.mapped import map_wide_vectors
from tunesmith.settings import Quantization

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def load_model(
    directory: Path, dtype: "torch.dtype", device: str = "cpu", quantization: Quantization = "none"
) -> "PreTrainedModel":
    """The base in `directory`, as a frozen transformers model in eval mode.

    Of a base that also takes images or sound, its text model (`families.text_part`).

    On a CPU, tensors stored in `dtype` are views of the mapped file: loading makes no copy, and processes that load the
    same base share its pages. Raises InvalidRequest if this machine does not support `quantization`.
    """
    from transformers.utils import logging

    from tunesmith.families.text_part import text_part

    logging.disable_progress_bar()
    if quantization == "nf4":
        return _load_nf4(directory, dtype, device)
    model = text_part(_whole(directory, dtype=dtype))
    model.requires_grad_(False)
    return model.to(device).eval()


def load_as_stored(directory: Path, dtype: "torch.dtype") -> "PreTrainedModel":
    """As `load_model` on a CPU, with norms and biases as they are stored.

    Those in float32 beside matrices of 16 bits stay so.
    """
    import torch

    model = load_model(directory, dtype)
    if dtype.itemsize == torch.float32.itemsize:
        return model

    parameters = dict(model.named_parameters())
    for name, vector in map_wide_vectors(directory).items():
        if name in parameters:
            parameters[name].data = torch.from_numpy(vector.copy())
    return model


def _whole(directory: Path, **options: object) -> "PreTrainedModel":
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, Mxfp4Config

    local = {"trust_remote_code": False, "local_files_only": True}
    config = AutoConfig.from_pretrained(directory, **local)
    if is_packed(directory):  # as numbers of `dtype` everywhere: what computes in 4 bits has no gradient
        options["quantization_config"] = Mxfp4Config(dequantize=True)
    auto = AutoModelForCausalLM if config.get_text_config() is config else AutoModelForImageTextToText
    return auto.from_pretrained(directory, use_safetensors=True, **local, **options)


def is_packed(directory: Path) -> bool:
    """Whether the base's experts are stored in 4 bits (MXFP4), as GPT-OSS has them."""
    config: JsonObject = json.loads((directory / "config.json").read_text("utf-8"))
    given = config.get("quantization_config")
    return isinstance(given, dict) and given.get("quant_method") in READABLE_FORMATS


def refuse_packed(directory: Path) -> None:
    """Raises InvalidRequest if the base is quantized itself.

    Then `quantization` cannot be asked for.
    """
    if is_packed(directory):
        raise InvalidRequest(
            "quantization is 'nf4', but this base has its experts in 4 bits already (MXFP4), and they are unpacked for "
            "training. Leave 'quantization' out.",
            param="tunesmith.quantization",
            code="quantization_not_available",
        )


def require_nf4(*, cuda: bool | None = None) -> None:
    """Raises InvalidRequest if something for 4-bit weights is missing.

    `cuda` None: the GPU is not looked for, since that takes importing torch, but a torch that is built without CUDA is
    noticed.
    """
    missing = []
    if cuda is False or (cuda is None and is_cpu_build()):
        missing.append("no CUDA GPU that PyTorch can use")
    if importlib.util.find_spec("bitsandbytes") is None:
        missing.append("no package bitsandbytes (pip install bitsandbytes accelerate)")
    if missing:
        raise InvalidRequest(
            "quantization is 'nf4', which needs an NVIDIA GPU and bitsandbytes; this machine has "
            f"{' and '.join(missing)}. Leave 'quantization' out to train a LoRA beside the base as it is.",
            param="tunesmith.quantization",
            code="quantization_not_available",
        )


def is_cpu_build() -> bool:
    """Whether the installed torch can use no GPU at all.

    By what it says of itself in its version.py.
    """
    spec = importlib.util.find_spec("torch")
    version = Path(spec.origin).with_name("version.py") if spec is not None and spec.origin else None
    if version is None or not version.is_file():
        return False
    text = version.read_text("utf-8")
    return all(re.search(rf"^{name}\b.*= None$", text, re.MULTILINE) for name in ("cuda", "hip"))


def _load_nf4(directory: Path, dtype: "torch.dtype", device: str) -> "PreTrainedModel":
    """The base in 4 bits, as QLoRA has it (arXiv:2305.14314). We have run this on a CPU once, never on a GPU."""
    import torch

    require_nf4(cuda=torch.cuda.is_available())
    from transformers import BitsAndBytesConfig

    from tunesmith.families.text_part import text_part

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    model = text_part(_whole(directory, dtype=dtype, quantization_config=config, device_map={"": device}))
    model.requires_grad_(False)
    return model.eval()
