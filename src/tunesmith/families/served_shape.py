"""What the serving kernels need to know of a base, read of its config.json.

transformers knows each family's defaults, but importing it takes seconds: `served_shape` reads what a file says in so
many words, and says None where it leaves something to the family, or has what is not known here. Then transformers
is asked (`serve.local.torch_weights`). A test compares both for the families of the table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import cast

import numpy
from numpy.typing import NDArray

from tunesmith.families.formulas import Formulas, plain_formulas
from tunesmith.families.layout import HEAD_NORMS, LAYER_NORMS, SHARED_INPUTS, layer_path
from tunesmith.families.rotation import Frequencies, frequencies
from tunesmith.families.table import FAMILIES, FULL_ATTENTION, FileForm, compiled_gap
from tunesmith.jsonvalue import JsonObject

EMBEDDING, HEAD, FINAL_NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"
_SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
    "max_position_embeddings",
)
_ATTENTION = (*SHARED_INPUTS[0], *SHARED_INPUTS[1])
_MLP = (*SHARED_INPUTS[2], *SHARED_INPUTS[3])
_UNKNOWN = ("text_config", "quantization_config", "quantization", "partial_rotary_factor")  # to be read by transformers


@dataclass(frozen=True, slots=True)
class ServedShape:
    """Sizes of a model whose steps are compiled."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head: int  # values of an attention head
    inner: int  # width of the MLP
    vocabulary: int
    context: int  # positions that the base was made for
    eps: float
    frequencies: Frequencies
    formulas: Formulas
    norm_offset: float = 0.0  # norms multiply by this + weight
    logit_scale: float = 1.0
    logit_cap: float = 0.0  # logits become cap * tanh(logit / cap); 0: they stay

    def linears(self) -> dict[str, tuple[int, int]]:
        """Outputs and inputs of every linear layer, by its path.

        The output layer's is `lm_head`.
        """
        queries, keys = self.heads * self.head, self.kv_heads * self.head
        hidden, inner = self.hidden, self.inner
        sizes = [(queries, hidden), (keys, hidden), (keys, hidden), (hidden, queries)]
        sizes += [(inner, hidden), (inner, hidden), (hidden, inner)]
        named = dict(zip((*_ATTENTION, *_MLP), sizes, strict=True))
        of_layers = {
            f"{layer_path(index)}.{name}": size for index in range(self.layers) for name, size in named.items()
        }
        return {**of_layers, "lm_head": (self.vocabulary, hidden)}


def served_shape(config: JsonObject) -> ServedShape | None:
    """The shape that a base's config gives; None where transformers has to be asked."""
    form = _form(config)
    if form is None or any(config.get(name) is not None for name in _UNKNOWN) or _has_windows(config):
        return None
    sizes = [config.get(name) for name in _SIZES]
    eps, turns = config.get("rms_norm_eps"), frequencies(config, _head(config))
    plain = all(type(size) is int and size > 0 for size in sizes) and isinstance(eps, float)
    if not plain or turns is None or any(name not in config for name in form.needs) or _gap(config) is not None:
        return None
    hidden, inner, layers, heads, kv_heads, vocabulary, context = cast(list[int], sizes)
    head = _head(config)
    formulas = plain_formulas(layers, head)
    return ServedShape(
        layers, hidden, heads, kv_heads, head, inner, vocabulary, context, cast(float, eps), turns, formulas
    )


def has_its_tensors(config: JsonObject, shape: ServedShape, tensors: Mapping[str, NDArray[numpy.generic]]) -> bool:
    """Whether a base has exactly the tensors that its shape says, in their sizes.

    transformers would make up for others, each in its own way.
    """
    sizes = {name: tuple(tensor.shape) for name, tensor in tensors.items() if not name.endswith("rotary_emb.inv_freq")}
    expected = _expected(config, shape)
    if config.get("tie_word_embeddings", HEAD not in sizes):
        del expected[HEAD]
    return sizes == expected


def _expected(config: JsonObject, shape: ServedShape) -> dict[str, tuple[int, ...]]:
    form, hidden = _form(config) or FileForm(), shape.hidden
    sizes: dict[str, tuple[int, ...]] = {EMBEDDING: (shape.vocabulary, hidden), FINAL_NORM: (hidden,)}
    with_bias = _with_bias(config, form)
    for path, size in shape.linears().items():
        sizes[f"{path}.weight"] = size
        if path.split(".", 3)[-1] in with_bias:
            sizes[f"{path}.bias"] = size[:1]
    for index in range(shape.layers):
        sizes |= {f"{layer_path(index)}.{name}.weight": (hidden,) for name in LAYER_NORMS.values()}
        if form.head_norms:
            sizes |= {f"{layer_path(index)}.{name}.weight": (shape.head,) for name in HEAD_NORMS.values()}
    return sizes


def _with_bias(config: JsonObject, form: FileForm) -> set[str]:
    always = {name for name in _ATTENTION if name.rpartition(".")[2] in form.bias}
    by_config = [names for key, names in zip(form.bias_keys, (_ATTENTION, _MLP), strict=False) if config.get(key)]
    return always.union(*by_config)


def _form(config: JsonObject) -> FileForm | None:
    family = FAMILIES.get(str(config.get("model_type")))
    return None if family is None else family.files


def _has_windows(config: JsonObject) -> bool:
    kinds = config.get("layer_types") or ()
    others = not isinstance(kinds, list) or any(kind != FULL_ATTENTION for kind in kinds) if kinds else False
    family = FAMILIES[str(config.get("model_type"))]
    return others or bool(config.get("use_sliding_window") or (family.layout.windowed and config.get("sliding_window")))


def _head(config: JsonObject) -> int:
    given, hidden, heads = (config.get(name) for name in ("head_dim", "hidden_size", "num_attention_heads"))
    if isinstance(given, int) and given > 0:
        return given
    return hidden // heads if isinstance(hidden, int) and isinstance(heads, int) and heads > 0 else 0


def _gap(config: JsonObject) -> str | None:
    """What the table of families says of this config."""
    read = {"hidden_act": "silu", "sliding_window": None, **config, "rope_parameters": None}  # rotation: frequencies()
    return compiled_gap(SimpleNamespace(**read), "serving")  # type: ignore[arg-type]
