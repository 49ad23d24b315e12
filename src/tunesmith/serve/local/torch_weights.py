"""A base for the compiled runner by way of transformers.

For bases whose files leave something to the family, and for families that compute otherwise than Llama.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tunesmith.families.array_panels import Weights
from tunesmith.families.compiled_shapes import linear_sizes, model_gap
from tunesmith.families.layout import (
    SHARED_INPUTS,
    head_size,
    layer_inputs,
    layer_path,
    logit_cap,
    logit_scale,
    norm_names,
)
from tunesmith.families.model_formulas import formulas_of, layout_of, rotary_order, rotary_sizes
from tunesmith.families.rotation import Angles, Frequencies, Lengths, Rotation, Table
from tunesmith.families.served_shape import HEAD, ServedShape
from tunesmith.families.text_part import is_plain_linear
from tunesmith.serve.local.base_weights import BaseWeights
from tunesmith.serve.local.panels.lora import Part

if TYPE_CHECKING:
    from transformers import PreTrainedModel

POSITIONS = 1024  # whose cosines and sines are computed at first
ROTATED = SHARED_INPUTS[0][:2]


def supports(model: "PreTrainedModel") -> bool:
    """Whether a `CompiledRunner` computes this model."""
    return model_gap(model, "serving") is None


def weights_of(model: "PreTrainedModel") -> BaseWeights:
    """The weights of a model that `supports` takes; they share its memory."""
    layers = model.config.num_hidden_layers
    tensors = {name: _array(parameter.data) for name, parameter in model.named_parameters()}
    head = model.get_output_embeddings()
    if head is not None:
        tensors.setdefault(HEAD, _array(cast(Tensor, head.weight).data))
    shape = _shape(model)
    return BaseWeights(
        shape=shape,
        tensors=tensors,
        sizes={
            name: (module.out_features, module.in_features)
            for name, module in model.named_modules()
            if is_plain_linear(module)
        },
        parts=[parts for index in range(layers) for parts in _layer_parts(model, index)],
        norms=[_norms(model, index) for index in range(layers)],
        rotation=_rotation(model.base_model.rotary_emb, shape),
    )


def _shape(model: "PreTrainedModel") -> ServedShape:
    config = model.config
    return ServedShape(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head=head_size(config),
        inner=config.intermediate_size,
        vocabulary=config.vocab_size,
        context=config.max_position_embeddings,
        eps=config.rms_norm_eps,
        frequencies=_frequencies(model.base_model.rotary_emb),
        formulas=formulas_of(model),
        norm_offset=layout_of(config).norm_offset,
        logit_scale=logit_scale(config),
        logit_cap=logit_cap(config),
    )


def _frequencies(rotary: nn.Module) -> Frequencies:
    """Of a module with the same angles in all layers; none of another."""
    rates = getattr(rotary, "inv_freq", None)
    array = numpy.empty(0, numpy.float32) if rates is None else cast(Tensor, rates).float().numpy()
    scaling = getattr(rotary, "attention_scaling", 1.0)
    return Frequencies(array, float(scaling) if isinstance(scaling, int | float) else 1.0)


def _rotation(rotary: nn.Module, shape: ServedShape) -> Angles:
    """What is known in so many words, or else the module."""
    known = shape.formulas.rotations == (None,) and _border(rotary) is None
    return Rotation(shape.frequencies) if known else TorchRotation(rotary, shape.formulas.rotations)


def _layer_parts(model: "PreTrainedModel", index: int) -> list[tuple[Part, ...]]:
    """A layer's linears by the input that they share."""
    config, sizes = model.config, linear_sizes(model.config, index)
    rotated, layer = rotary_sizes(model)[0], model.get_submodule(layer_path(index))
    groups = list[tuple[Part, ...]]()
    for names, paths in zip(SHARED_INPUTS, layer_inputs(layer), strict=True):
        outs = {path: (sizes[path][0],) if path in sizes else tuple(sizes[name][0] for name in names) for path in paths}
        heads = {path: outs[path][0] // head_size(config) for path in paths if path in ROTATED}
        orders = {path: rotary_order(config, rotated, count) for path, count in heads.items()}
        groups.append(
            tuple(Part(f"{layer_path(index)}.{path}", outs[path], _numpy(orders.get(path))) for path in paths)
        )
    return groups


def _numpy(order: Tensor | None) -> NDArray[numpy.int64] | None:
    return None if order is None else cast(NDArray[numpy.int64], order.numpy())


def _norms(model: "PreTrainedModel", index: int) -> dict[str, str]:
    layer, layout = model.get_submodule(layer_path(index)), layout_of(model.config)
    names = norm_names(cast(nn.Module, layer.self_attn), layout.norms)
    return {field: f"{layer_path(index)}.{name}" for field, name in names.items()}


def _array(tensor: Tensor) -> Weights:
    if tensor.dtype == torch.bfloat16:
        return tensor.contiguous().view(torch.int16).numpy().view(numpy.uint16)
    return cast(Weights, tensor.contiguous().numpy())


class TorchRotation:
    """The rotary cosines and sines of positions, by transformers' own code."""

    def __init__(self, rotary: nn.Module, kinds: Sequence[str | None] = (None,)) -> None:
        """`kinds`: the types of layers that have angles of their own; None: all have the same."""
        self._rotary, self._kinds = rotary, kinds
        self.border = _border(rotary)
        self._cos = self._sin = torch.empty(0, 0, 0)

    def of(self, positions: NDArray[numpy.int64], lengths: Lengths) -> tuple[Table, Table]:
        """As `Angles` has it."""
        end = max(stop for _, stop in lengths)
        if end > self._cos.shape[1]:
            self._extend(max(POSITIONS, 2 * end))
        places = torch.from_numpy(positions)
        if self.border is None:
            cos, sin = self._cos[:, places], self._sin[:, places]
        else:
            long = torch.tensor([stop > self.border for count, stop in lengths for _ in range(count)]).long()
            cos, sin = self._cos[long, places].unsqueeze(0), self._sin[long, places].unsqueeze(0)
        return cast(Table, cos.contiguous().numpy()), cast(Table, sin.contiguous().numpy())

    def _extend(self, positions: int) -> None:
        """Tables of so many positions: one for each kind, or for short and for long sequences."""
        places = torch.arange(positions)
        if self.border is None:
            pairs = [self._angles(places, kind) for kind in self._kinds]
        else:  # transformers takes the larger of the positions that it is asked for
            short, long = self._angles(places[: self.border], None), self._angles(places, None)
            rest = positions - len(short[0])
            pairs = [(_padded(short[0], rest), _padded(short[1], rest)), long]
        self._cos, self._sin = (torch.stack(tables).contiguous() for tables in zip(*pairs, strict=True))

    def _angles(self, places: Tensor, kind: str | None) -> tuple[Tensor, Tensor]:
        further = () if kind is None else (kind,)
        cos, sin = self._rotary(torch.empty(1), places.unsqueeze(0), *further)
        return cos[0].float(), sin[0].float()


def _border(rotary: nn.Module) -> int | None:
    """Sequences longer than this have other angles at all positions; None: every length has the same."""
    if getattr(rotary, "rope_type", None) != "longrope":
        return None
    parameters = cast(Mapping[str, int], getattr(rotary.config, "rope_parameters", None))
    return parameters["original_max_position_embeddings"]


def _padded(table: Tensor, rows: int) -> Tensor:
    return nn.functional.pad(table, (0, 0, 0, rows))
