"""Which path a run takes through the layers of its base, and why.

Every condition is here, or named here:

    compiled   the layers as compiled code: a LoRA on a base of a compiled family, on a CPU
    tree       the base's own modules over the token tree: everything else, accelerators included
    padded     rows padded to one length, the reference path: `packing` off, layers with a running state, or where the
               other two fail their check

The check is made by `train.prepare`: it runs a few rows through the chosen path and the reference (`paths.verify`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from tunesmith.families.array_panels import QUANTISED
from tunesmith.families.compiled_shapes import model_gap
from tunesmith.families.config_file import read_text_config
from tunesmith.families.layout import head_size, layer_path
from tunesmith.families.panels import KINDS
from tunesmith.families.support import is_recurrent
from tunesmith.families.table import STAND_INS, family_gap
from tunesmith.kernels.vectors import LANES
from tunesmith.models.facts import Stored, stored_width
from tunesmith.models.options_check import refuse_blocks
from tunesmith.settings import Quantization
from tunesmith.train.adapters.checkpoint import TrainableParameters
from tunesmith.train.adapters.lora import Adapter
from tunesmith.train.core.examples import Example
from tunesmith.train.core.plan import SMALL_COMPILED_STEP, MemoryPlan, copies_pay, weight_copies
from tunesmith.train.protocol.spec import TrainSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SHARDED = "the weights are shared out among the ranks"
StackKind: TypeAlias = Literal["compiled", "tree", "padded"]


@dataclass(frozen=True, slots=True)
class StackChoice:
    """A path, and a sentence for the job's events that says why."""

    kind: StackKind
    reason: str
    trains: bool = False  # the base's modules need training mode for gradients: dropout, recomputed activations
    fuses: bool = False  # tree: fused functions take the place of the base's own norms, MLPs and rotary embeddings


def choose_stack(
    spec: TrainSpec,
    model: "PreTrainedModel",
    trainable: TrainableParameters,
    plan: MemoryPlan,
    *,
    sharded: bool = False,
) -> StackChoice:
    """Chooses by the spec, the base, what is trained of it, and the memory plan.

    `sharded`: a layer's weights are there only while its own modules compute it.
    """
    trains = bool(spec.options.lora_dropout) or plan.activation_checkpointing
    padded = _padded_gap(spec, model)
    gap = padded or (SHARDED if sharded else None) or _plan_gap(spec, plan) or compiled_layers_gap(model, trainable)
    if in_blocks(spec.options.quantization):
        refuse_blocks(gap, spec.options.quantization)
    if padded is not None:
        return StackChoice("padded", f"The layers run on padded rows: {padded}.", trains)
    if gap is None:
        return StackChoice("compiled", "The layers run as compiled code.")
    fuses = spec.options.quantization == "none" and not sharded  # fused functions read plain weights
    return StackChoice("tree", f"The layers run as the base's own modules: {gap}.", trains, fuses)


def _padded_gap(spec: TrainSpec, model: "PreTrainedModel") -> str | None:
    """Why rows share no beginnings."""
    if not spec.packing:
        return "packing is off"
    return "some keep a state, so rows share nothing" if is_recurrent(model.config.to_dict()) else None


def compiled_layers_gap(model: "PreTrainedModel", trainable: TrainableParameters) -> str | None:
    """Why `CompiledLayers` do not compute this model; None where they do."""
    if not isinstance(trainable, Adapter):
        return "all weights are trained"
    return model_gap(model, "training") or _size_gap(model) or _weights_gap(model, trainable)


def in_blocks(quantization: Quantization) -> bool:
    """Whether the frozen weights are in blocks of 8 or 4 bits."""
    return quantization in QUANTISED


def copies_of_weights(spec: TrainSpec, examples: Sequence[Example], weight_bytes: int, free: int) -> int:
    """How many repacked copies of the frozen weights pay: 0, 1, or one a direction.

    Asked before the base is loaded, so of the conditions above it looks at those that the spec and the family decide.
    """
    if in_blocks(spec.options.quantization):
        return 1
    if spec.blocked_weights is False:
        return 0
    tokens = sum(example.tokens for example in examples)
    compiled = _may_compile(spec)
    step_tokens = spec.batch_size * tokens / len(examples)
    if spec.blocked_weights:
        return 1 if compiled and step_tokens > SMALL_COMPILED_STEP else 2
    run_tokens, narrow = spec.n_epochs * tokens, width_in_memory(spec) != "float32"
    return weight_copies(step_tokens, run_tokens, weight_bytes, free, compiled=compiled, narrow=narrow)


def no_copies_gap(spec: TrainSpec, examples: Sequence[Example]) -> str:
    """Why `copies_of_weights` is 0, where it is."""
    if spec.blocked_weights is False:
        return "repacking the weights is switched off"
    tokens = sum(example.tokens for example in examples)
    if copies_pay(spec.batch_size * tokens / len(examples), spec.n_epochs * tokens, compiled=_may_compile(spec)):
        return "there is no memory for the weights once more, repacked"
    return "repacking the weights would not pay in a run of this size"


def width_in_memory(spec: TrainSpec) -> Stored:
    """The format that a base's weights are loaded in on a CPU.

    Their file's, if compiled layers will widen them.
    """
    if in_blocks(spec.options.quantization):
        return stored_width(spec.base_dir) if _may_compile(spec) else "float32"
    plain = spec.packing and spec.options.quantization == "none" and spec.options.adapter == "lora"
    kept = spec.weights == "auto" and spec.blocked_weights is not False and plain and _may_compile(spec)
    return stored_width(spec.base_dir) if kept else "float32"


def _may_compile(spec: TrainSpec) -> bool:
    family = str(read_text_config(spec.base_dir).get("model_type"))
    return family_gap(STAND_INS.get(family, family)) is None and not spec.options.lora_dropout


def _plan_gap(spec: TrainSpec, plan: MemoryPlan) -> str | None:
    if spec.options.lora_dropout:
        return "the adapter has dropout"
    if not plan.blocked_weights:
        return plan.unblocked or "the weights are not repacked"
    return "activations are recomputed" if plan.activation_checkpointing else None


def _size_gap(model: "PreTrainedModel") -> str | None:
    config = model.config
    sizes = {
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "head size": head_size(config),
    }
    odd = next((name for name, size in sizes.items() if size % LANES), None)
    return None if odd is None else f"its {odd}, {sizes[odd]}, is not a multiple of {LANES}"


def _weights_gap(model: "PreTrainedModel", adapter: Adapter) -> str | None:
    if any(p.dtype not in KINDS or p.device.type != "cpu" for p in model.parameters()):
        return "its weights are not in 16 or 32 bits on a CPU"
    if any(layer.dropout or layer.quantized for layer in adapter.layers.values()):
        return "an adapted layer is quantized or has dropout"
    prefix = layer_path(0).rpartition("0")[0]
    if any(not path.startswith(prefix) for path in adapter.layers):
        return "the adapter is not only on linear layers inside the blocks"
    return None
