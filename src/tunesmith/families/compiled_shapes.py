"""Whether each layer of a model has the modules and shapes of compiled code.

The config of a family may promise less than a model has: what is not known to be computed is a gap.
"""

from typing import TYPE_CHECKING, cast

from torch import Tensor, nn

from tunesmith.families.layout import (
    HEAD_NORMS,
    LAYER_NORMS,
    SHARED_INPUTS,
    head_size,
    inner_size,
    layer_path,
    norm_names,
)
from tunesmith.families.table import Use, compiled_gap

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

LINEARS = [name for names in SHARED_INPUTS for name in names]
NORMS = {*LAYER_NORMS.values(), *HEAD_NORMS.values()}
HOLDERS = {"self_attn", "mlp"}
ACTIVATION = "mlp.act_fn"


def model_gap(model: "PreTrainedModel", use: Use) -> str | None:
    """Why compiled code does not compute this model for `use`; None where it does."""
    config = model.config
    if getattr(config, "is_heterogeneous", False):
        return "its layers have different sizes"
    found = compiled_gap(config, use) or _rotation_gap(model, head_size(config))
    return found or next((gap for index in range(config.num_hidden_layers) if (gap := _layer_gap(model, index))), None)


def _rotation_gap(model: "PreTrainedModel", size: int) -> str | None:
    frequencies = getattr(getattr(model.base_model, "rotary_emb", None), "inv_freq", None)
    if frequencies is None:
        return "it has no rotary embedding"
    rotated = 2 * len(cast(Tensor, frequencies))
    return None if rotated == size else f"{rotated} of the {size} values of a head are rotated"


def _layer_gap(model: "PreTrainedModel", index: int) -> str | None:
    layer = model.get_submodule(layer_path(index))
    parts = {path.removesuffix(".base") for path, _ in layer.named_modules() if path}  # what a LoRA is beside
    norms = set(norm_names(layer.self_attn).values())
    expected = {*LINEARS, *norms, *HOLDERS}
    other = sorted((parts - {ACTIVATION}) ^ expected)
    if other:
        return f"layer {index} {'has' if other[0] in parts else 'lacks'} {other[0]}"
    return _linear_gap(layer, model.config, index) or _norm_gap(layer, model.config, norms)


def _linear_gap(layer: nn.Module, config: "PretrainedConfig", index: int) -> str | None:
    hidden, inner = config.hidden_size, inner_size(config, index)
    queries, keys = (n * head_size(config) for n in (config.num_attention_heads, config.num_key_value_heads))
    shapes = dict(zip(LINEARS, [(queries, hidden), (keys, hidden), (keys, hidden), (hidden, queries)], strict=False))
    shapes |= dict(zip(LINEARS[4:], [(inner, hidden), (inner, hidden), (hidden, inner)], strict=True))
    for names in SHARED_INPUTS:
        modules = {name: layer.get_submodule(name) for name in names}
        linears = {name: getattr(module, "base", module) for name, module in modules.items()}
        for name, linear in linears.items():
            if (linear.out_features, linear.in_features) != shapes[name]:
                return f"{name} of layer {index} has {linear.out_features} outputs and {linear.in_features} inputs"
        if len({linear.bias is None for linear in linears.values()}) > 1:
            return f"only some of {', '.join(names)} have a bias"
    return None


def _norm_gap(layer: nn.Module, config: "PretrainedConfig", names: set[str]) -> str | None:
    for name in sorted(names):
        norm = layer.get_submodule(name)
        size = head_size(config) if name in HEAD_NORMS.values() else config.hidden_size
        epsilon = getattr(norm, "variance_epsilon", getattr(norm, "eps", None))
        weights = {path: tuple(weight.shape) for path, weight in norm.named_parameters()}
        if not type(norm).__name__.endswith("RMSNorm") or weights != {"weight": (size,)}:
            return f"{name} is no RMSNorm of {size} values"
        if epsilon != config.rms_norm_eps:
            return f"{name} has another epsilon than the config"
    return None
