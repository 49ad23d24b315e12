"""The text model inside a base that also takes images or sound.

Only this part is trained and served, as the causal model of its own family: the other parts are not kept in memory.
Adapters are written under the names that the whole base has for the layers, so that other tools apply them to it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from tunesmith.families.peft_names import PART
from tunesmith.families.table import STAND_INS

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

IMAGE_ROTATION = ("mrope_section", "mrope_interleaved")  # text alone is rotated as by a plain rotary embedding


def text_part(whole: "PreTrainedModel") -> "PreTrainedModel":
    """The causal model of the base's text; the base itself where it has no other part."""
    decoder: PreTrainedModel = cast(Callable[[], "PreTrainedModel"], whole.get_decoder)()
    path = next(path for path, module in whole.named_modules() if module is decoder)
    if PART not in path.split("."):
        return whole
    if decoder.get_output_embeddings() is not None:  # a causal model itself
        causal, prefix = decoder, ""
    else:
        causal = _causal(decoder)
        cast(Callable[[object], None], causal.set_output_embeddings)(whole.get_output_embeddings())
        prefix = cast(str, causal.base_model_prefix)
    causal._stored_as = (prefix, path)  # type: ignore[assignment]
    causal.generation_config = whole.generation_config
    return causal.eval()


def stored_path(model: nn.Module, path: str) -> str:
    """What the whole base calls the module that is at `path` in `model`."""
    prefix, whole = getattr(model, "_stored_as", ("", ""))
    return f"{whole}.{path.removeprefix(prefix).removeprefix('.')}".removeprefix(".")


def is_plain_linear(module: nn.Module) -> bool:
    """Whether a LoRA can be added to what the module returns.

    Some routers are linear layers that return more.
    """
    quantized = type(module).__module__.startswith("bitsandbytes.")
    return isinstance(module, nn.Linear) and (quantized or type(module).forward is nn.Linear.forward)


def _causal(decoder: "PreTrainedModel") -> "PreTrainedModel":
    from transformers import AutoModelForCausalLM

    kind = decoder.config.model_type
    config = _plain_config(decoder.config, STAND_INS[kind]) if kind in STAND_INS else decoder.config
    with torch.device("meta"):
        causal: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    if kind in STAND_INS:
        _take_over(cast(nn.Module, causal.base_model), decoder)
    else:
        setattr(causal, cast(str, causal.base_model_prefix), decoder)
        causal.config = decoder.config  # one object, so that the attention can be chosen
    return causal


def _plain_config(config: "PretrainedConfig", kind: str) -> "PretrainedConfig":
    from transformers import AutoConfig

    values = {name: value for name, value in config.to_dict().items() if name != "model_type"}
    rope = values.get("rope_parameters") or {}
    values["rope_parameters"] = {name: value for name, value in rope.items() if name not in IMAGE_ROTATION}
    plain: PretrainedConfig = AutoConfig.for_model(kind, **values)
    return plain


def _take_over(target: nn.Module, source: nn.Module) -> None:
    """Puts the modules of `source` that have weights into `target`, a model of another class on the meta device."""
    for path, module in [*source.named_modules()]:
        if [*module.parameters(recurse=False)]:
            parent, _, name = path.rpartition(".")
            setattr(target.get_submodule(parent), name, module)
    rotary = cast(nn.Module, target.rotary_emb)
    target.rotary_emb = type(rotary)(config=target.config)
