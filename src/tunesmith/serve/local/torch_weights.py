"""A base for the compiled runner by way of transformers.

For bases whose files leave something to the family.
"""

from typing import TYPE_CHECKING, cast

import numpy
import torch

from tunesmith.families.array_panels import Weights
from tunesmith.families.compiled_shapes import model_gap
from tunesmith.families.layout import head_size
from tunesmith.families.rotation import Frequencies
from tunesmith.families.served_shape import HEAD, ServedShape
from tunesmith.serve.local.base_weights import BaseWeights

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


def supports(model: "PreTrainedModel") -> bool:
    """Whether a `CompiledRunner` computes this model."""
    return model_gap(model, "serving") is None


def weights_of(model: "PreTrainedModel") -> BaseWeights:
    """The weights of a model that `supports` takes; they share its memory."""
    config = model.config
    rotary = model.base_model.rotary_emb
    rates = cast("Tensor", rotary.inv_freq).float().numpy()
    shape = ServedShape(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head=head_size(config),
        inner=config.intermediate_size,
        vocabulary=config.vocab_size,
        context=config.max_position_embeddings,
        eps=config.rms_norm_eps,
        frequencies=Frequencies(rates, float(cast(float, getattr(rotary, "attention_scaling", 1.0)))),
    )
    tensors = {name: _array(parameter.data) for name, parameter in model.named_parameters()}
    head = model.get_output_embeddings()
    if head is not None:
        tensors.setdefault(HEAD, _array(cast("Tensor", head.weight).data))
    return BaseWeights(shape, tensors)


def _array(tensor: "Tensor") -> Weights:
    if tensor.dtype == torch.bfloat16:
        return tensor.contiguous().view(torch.int16).numpy().view(numpy.uint16)
    return cast(Weights, tensor.contiguous().numpy())
