"""Building the scorer of a chosen path."""

from typing import cast

from torch import nn

from tunesmith.kernels.compiler import is_cached, precompile
from tunesmith.kernels.rounding import read_panels, round_panels
from tunesmith.kernels.training.step import training_step
from tunesmith.settings import Quantization
from tunesmith.system.activity import doing
from tunesmith.train.adapters.lora import Adapter
from tunesmith.train.core.plan import MemoryPlan
from tunesmith.train.loading import LoadedBase
from tunesmith.train.paths.accelerate import accelerate
from tunesmith.train.paths.choose_attention import varlen_gap
from tunesmith.train.paths.choose_stack import StackChoice, in_blocks
from tunesmith.train.paths.compiled import CompiledLayers
from tunesmith.train.paths.layer_stack import LayerStack, TorchLayers
from tunesmith.train.paths.padded import PaddedScorer
from tunesmith.train.paths.scoring import Scorer, TreeScorer
from tunesmith.train.protocol.events import Listener, Log


def build_scorer(
    choice: StackChoice, base: LoadedBase, plan: MemoryPlan, emit: Listener, quantization: Quantization = "none"
) -> Scorer:
    """The scorer of the chosen path.

    Changes the base's modules, and takes the weights out of them where the plan has them repacked. Raises
    UnsupportedAttention where the base does not compute the token tree; then the base has to be loaded again.
    """
    if choice.kind == "padded":
        return PaddedScorer(base.model, choice.trains)
    stack = _stack(choice, base, plan, emit, quantization)
    scorer = TreeScorer(base.model, stack)
    if isinstance(stack, CompiledLayers):
        scorer.use_head(stack.take_head(cast(nn.Linear, base.model.get_output_embeddings())))
    elif isinstance(base.trainable, Adapter) and plan.blocked_weights:
        base.trainable.pack_frozen()
        scorer.pack_head()
    return scorer


def _stack(
    choice: StackChoice, base: LoadedBase, plan: MemoryPlan, emit: Listener, quantization: Quantization
) -> LayerStack:
    if choice.kind == "compiled" and isinstance(base.trainable, Adapter):
        _compile_once(emit)
        both = plan.both_directions and not in_blocks(quantization)
        return CompiledLayers(base.model, base.trainable, both, quantization)
    if choice.fuses:
        accelerate(base.model)
    return TorchLayers(base.model, choice.trains, _takes_varlen(base, emit))


def _takes_varlen(base: LoadedBase, emit: Listener) -> bool:
    """On a GPU, whether attention need not take a dense mask; said in the job's events."""
    if base.model.device.type == "cpu":
        return False
    gap = varlen_gap(base.model)
    way = "FlashAttention, a call for each depth of the tree" if gap is None else f"a dense mask: {gap}"
    emit(Log("info", f"Attention goes through {way}."))
    return gap is None


def _compile_once(emit: Listener) -> None:
    entries = training_step, round_panels, read_panels
    if not all(is_cached(entry) for entry in entries):
        emit(
            Log(
                "info",
                "Compiling the training kernels for this processor, once: half a minute, longer on a busy one.",
            )
        )
        with doing("compiling the kernels for training (once on this machine)"):
            precompile("training", *entries)
