"""Whether each layer of a model has the modules and shapes of compiled code.

The config of a family may promise less than a model has: what is not known to be computed is a gap.
"""

from typing import TYPE_CHECKING, cast

from torch import nn

from tunesmith.families.layout import (
    HEAD_NORMS,
    SHARED_INPUTS,
    head_size,
    inner_size,
    layer_inputs,
    layer_path,
    norm_names,
)
from tunesmith.families.model_formulas import has_wide_norms, layout_of, rotary_sizes
from tunesmith.families.table import Use, compiled_gap

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

HOLDERS = {"self_attn", "mlp"}
ACTIVATIONS = {"mlp.act_fn", "mlp.activation_fn"}
NUMBERS = ("scaling", "residual_multiplier")  # of attention or a layer: one for all layers


def model_gap(model: "PreTrainedModel", use: Use) -> str | None:
    """Why compiled code does not compute this model for `use`; None where it does."""
    config = model.config
    if getattr(config, "is_heterogeneous", False):
        return "its layers have different sizes"
    found = compiled_gap(config, use) or _rotation_gap(model, head_size(config))
    if found:
        return found
    gaps = (_layer_gap(model, index) for index in range(config.num_hidden_layers))
    return next((gap for gap in gaps if gap), None) or _final_norm_gap(model) or _numbers_gap(model)


def linear_sizes(config: "PretrainedConfig", index: int) -> dict[str, tuple[int, int]]:
    """Outputs and inputs of a layer's linears, by their paths in the layer."""
    hidden, inner = config.hidden_size, inner_size(config, index)
    queries, keys = (n * head_size(config) for n in (config.num_attention_heads, config.num_key_value_heads))
    outs_and_ins = [(queries, hidden), (keys, hidden), (keys, hidden), (hidden, queries)]
    outs_and_ins += [(inner, hidden), (inner, hidden), (hidden, inner)]
    return dict(zip([name for names in SHARED_INPUTS for name in names], outs_and_ins, strict=True))


def _rotation_gap(model: "PreTrainedModel", size: int) -> str | None:
    rotary = getattr(model.base_model, "rotary_emb", None)
    if rotary is None:
        return "it has no rotary embedding"
    rotated = set(rotary_sizes(model))
    if len(rotated) > 1:
        return "its layers rotate shares of different sizes"
    count = rotated.pop()
    return None if count <= size else f"{count} of the {size} values of a head are rotated"


def _layer_gap(model: "PreTrainedModel", index: int) -> str | None:
    layer = model.get_submodule(layer_path(index))
    modules = {path.removesuffix(".base"): module for path, module in layer.named_modules() if path}  # beside a LoRA
    parts = {path for path, module in modules.items() if not isinstance(module, nn.Dropout)}
    norms = set(norm_names(layer.self_attn, layout_of(model.config).norms).values())
    expected = {*HOLDERS, *norms, *(name for names in layer_inputs(layer) for name in names)}
    other = sorted((parts - ACTIVATIONS) ^ expected)
    if other:
        return f"layer {index} {'has' if other[0] in parts else 'lacks'} {other[0]}"
    return _linear_gap(layer, model.config, index) or _norm_gap(layer, model.config, norms)


def _linear_gap(layer: nn.Module, config: "PretrainedConfig", index: int) -> str | None:
    sizes = linear_sizes(config, index)
    for parts, names in zip(SHARED_INPUTS, layer_inputs(layer), strict=True):
        modules = {name: layer.get_submodule(name) for name in names}
        linears = {name: getattr(module, "base", module) for name, module in modules.items()}
        fused = (sum(sizes[part][0] for part in parts), sizes[parts[0]][1])
        for name, linear in linears.items():
            if (linear.out_features, linear.in_features) != sizes.get(name, fused):
                return f"{name} of layer {index} has {linear.out_features} outputs and {linear.in_features} inputs"
        if len({linear.bias is None for linear in linears.values()}) > 1:
            return f"only some of {', '.join(names)} have a bias"
    return None


def _norm_gap(layer: nn.Module, config: "PretrainedConfig", names: set[str]) -> str | None:
    head = head_size(config)
    heads = (config.num_attention_heads, config.num_key_value_heads) if has_wide_norms(layer, config) else (1, 1)
    sizes = dict(zip(HEAD_NORMS.values(), (count * head for count in heads), strict=True))
    gaps = (_one_norm_gap(layer.get_submodule(name), name, sizes.get(name), config) for name in sorted(names))
    return next((gap for gap in gaps if gap), None)


def _one_norm_gap(norm: nn.Module, name: str, size: int | None, config: "PretrainedConfig") -> str | None:
    size = size or config.hidden_size
    epsilon = getattr(norm, "variance_epsilon", getattr(norm, "eps", None))
    weights = {path: tuple(weight.shape) for path, weight in norm.named_parameters()}
    if not type(norm).__name__.endswith("RMSNorm") or weights != {"weight": (size,)}:
        return f"{name} is no RMSNorm of {size} values"
    return None if epsilon == config.rms_norm_eps else f"{name} has another epsilon than the config"


def _final_norm_gap(model: "PreTrainedModel") -> str | None:
    return _one_norm_gap(model.base_model.norm, "norm", None, model.config)


def _numbers_gap(model: "PreTrainedModel") -> str | None:
    """Layers that multiply by numbers of their own."""
    layers = [model.get_submodule(layer_path(index)) for index in range(model.config.num_hidden_layers)]
    holders = [*layers, *(cast(nn.Module, layer.self_attn) for layer in layers)]
    for name in NUMBERS:
        if len({getattr(holder, name) for holder in holders if hasattr(holder, name)}) > 1:
            return f"its layers have a {name} of their own"
    return None
