"""The model of a run: loaded, and its path through the layers chosen and checked."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

from torch import Tensor

from tunesmith.errors import DataError, TunesmithError
from tunesmith.families.panels import DTYPES
from tunesmith.families.table import family_gap
from tunesmith.models.facts import QUANTISED_BYTES, repacked_bytes, stored_width
from tunesmith.settings import TrainingOptions
from tunesmith.system.activity import doing
from tunesmith.system.memory import is_out_of_memory
from tunesmith.system.pages import Reserve, trim_heap
from tunesmith.train.adapters.checkpoint import TrainableParameters
from tunesmith.train.adapters.lora import Adapter
from tunesmith.train.core.device import Device, free_unused
from tunesmith.train.core.disk_room import LITTLE, DiskRoom
from tunesmith.train.core.examples import Example
from tunesmith.train.core.packing import added_tokens
from tunesmith.train.core.plan import LEAST_TOKENS, MemoryPlan, kept_plan, make_plan
from tunesmith.train.layers.attention import UnsupportedAttention
from tunesmith.train.layers.wide_modules import widen_all
from tunesmith.train.loading import LoadedBase, load_base
from tunesmith.train.paths.accelerate import restore
from tunesmith.train.paths.build import build_scorer
from tunesmith.train.paths.choose_stack import (
    StackChoice,
    StackKind,
    choose_stack,
    copies_of_weights,
    in_blocks,
    no_copies_gap,
)
from tunesmith.train.paths.flops import Work
from tunesmith.train.paths.padded import PaddedScorer
from tunesmith.train.paths.rounded import rounded
from tunesmith.train.paths.rounded_products import round_products
from tunesmith.train.paths.scoring import Scorer
from tunesmith.train.paths.verify import Disagreement, compare, expect, float32_head, probe
from tunesmith.train.protocol.events import Listener, Log
from tunesmith.train.protocol.spec import TrainSpec
from tunesmith.train.ranks.group import ONE_RANK, Ranks
from tunesmith.train.ranks.place import ALONE, Place
from tunesmith.train.ranks.plans import common_plan, plan_of_first
from tunesmith.train.sharding.scorer import ShardedScorer

REASON_CHARACTERS = 300  # of an exception's text in an event


@dataclass(frozen=True, slots=True)
class PreparedModel:
    """What a run needs of its base."""

    trainable: TrainableParameters
    scorer: Scorer
    micro_batch_tokens: int  # at most so many go through it at once
    enough_tokens: int  # see `packing.split`
    work: Work
    sharded: bool = False  # its weights are shared out among the ranks


@doing("loading the base model")
def prepare(
    spec: TrainSpec,
    examples: Sequence[Example],
    plan_file: Path,
    room: DiskRoom,
    device: Device | None = None,
    ranks: Ranks = ONE_RANK,
) -> PreparedModel:
    """Loads the base and prepares its path.

    `device`: None takes the one that the spec names. `examples`: all that will be scored, the training rows first. The
    memory plan is kept in `plan_file`.
    """
    device, emit = device or device_of(spec, ranks.place), room.emit
    reserve, base = _reserve(spec, device, examples, ranks), _loaded(spec, device, examples, ranks)
    work = Work.of(base.model, base.trainable)
    plan = _kept_plan(_memory_plan(spec, base, device, examples), plan_file, room, ranks)
    plan = replace(plan, blocked_weights=False) if base.sharded else plan
    choice = _chosen(spec, base, plan)
    _report(base, plan, choice, device, emit)
    setting = _Setting(choice, plan, examples, reserve, emit, ranks, spec.options)
    scorer = _scorer_of(setting, base)
    if scorer is None:  # the exception is gone, whose frames held the base: a GPU may have no room for two
        del base
        free_unused()
        base = load_base(spec, device, ranks)
        _compute_widely(base, "padded")
        scorer = _together(setting, base, PaddedScorer(base.model, choice.trains))
    _switch_on(setting, base, scorer)
    return PreparedModel(base.trainable, scorer, plan.micro_batch_tokens, plan.enough_tokens, work, base.sharded)


def _switch_on(setting: "_Setting", base: LoadedBase, scorer: Scorer) -> None:
    """Rounded products, and activations that are computed again, where they are asked for."""
    if setting.options.matmul_precision == "bfloat16":
        round_products(scorer, probe(setting.examples), base.trainable, setting.emit)
        trim_heap()
    if setting.plan.activation_checkpointing:
        base.model.activation_checkpointing_enable({"use_reentrant": False})


@dataclass(frozen=True, slots=True)
class _Setting:
    """What a scorer is built with, besides the base."""

    choice: StackChoice
    plan: MemoryPlan
    examples: Sequence[Example]
    reserve: Reserve
    emit: Listener
    ranks: Ranks
    options: TrainingOptions


def _loaded(spec: TrainSpec, device: Device, examples: Sequence[Example], ranks: Ranks) -> LoadedBase:
    base = load_base(spec, device, ranks)
    _check_tokens(base, examples)
    return base


def _check_tokens(base: LoadedBase, examples: Sequence[Example]) -> None:
    """Raises DataError for a token that the weights do not know: some tokenizers have more than they do."""
    known = len(cast(Tensor, base.model.get_input_embeddings().weight))
    for example in examples:
        highest = max(max(row.ids, default=0) for row in example.rows)
        if highest >= known:
            raise DataError(
                f"Line {example.line} has a text that becomes the token {highest}, and the base's weights know the"
                f" tokens 0 to {known - 1} only: its tokenizer has more. Leave that text out.",
                param="training_file",
            )


def _chosen(spec: TrainSpec, base: LoadedBase, plan: MemoryPlan) -> StackChoice:
    """The path, for which the base is made ready."""
    choice = choose_stack(spec, base.model, base.trainable, plan, sharded=base.sharded)
    _compute_widely(base, choice.kind)
    return choice


def _together(setting: _Setting, base: LoadedBase, scorer: Scorer) -> Scorer:
    """The scorer as the ranks use it: where weights are sharded, all of them at once."""
    if not base.sharded:
        return scorer
    return ShardedScorer(base.model, scorer, setting.ranks, setting.examples[0].rows[0])


def _compute_widely(base: LoadedBase, kind: StackKind) -> None:
    """Makes a base that was loaded in 16 bits for compiled layers one for its own modules."""
    if kind != "compiled" and base.computes != base.model.dtype:
        widen_all(base.model)


def device_of(spec: TrainSpec, place: Place = ALONE) -> Device:
    """The device that the spec names; InvalidRequest where this machine has none such."""
    return Device.chosen(spec.device, place, all_weights=spec.options.adapter == "none")


def _kept_plan(mine: MemoryPlan, path: Path, room: DiskRoom, ranks: Ranks) -> MemoryPlan:
    plan = common_plan(mine, ranks)
    if ranks.leads:
        plan = room.write("the plan of the memory", LITTLE, partial(kept_plan, path, plan))
    return plan_of_first(plan, ranks)


def _is_not_the_paths_fault(choice: StackChoice, reason: Exception) -> bool:
    """Whether the padded path would fail too: it is the one that failed, or there is not enough memory."""
    return choice.kind == "padded" or isinstance(reason, TunesmithError) or is_out_of_memory(reason)


def _said(reason: Exception) -> str:
    """The reason in one line; that of an exception which we do not raise ourselves begins with its name."""
    text = " ".join(str(reason).split())[:REASON_CHARACTERS].rstrip(".")
    return text if isinstance(reason, UnsupportedAttention | Disagreement) else f"{type(reason).__name__}: {text}"


def _scorer_of(setting: _Setting, base: LoadedBase) -> Scorer | None:
    """The scorer of the chosen path; None where it does not work, and the padded path may."""
    try:
        return _checked_scorer(setting, base)
    except Exception as reason:  # whatever it is: the reference path shares nothing with what failed
        if _is_not_the_paths_fault(setting.choice, reason) or in_blocks(setting.options.quantization):
            raise  # other paths do not read blocks
        restore()
        text = f"This base takes the padded path, slower and with the same result: {_said(reason)}."
        setting.emit(Log("warn", text))
        return None


def _checked_scorer(setting: _Setting, base: LoadedBase) -> Scorer:
    """The scorer of the chosen path. Raises Disagreement where it differs from the reference path on a few rows."""
    choice, plan, emit = setting.choice, setting.plan, setting.emit
    if choice.kind == "padded":
        return _together(setting, base, build_scorer(choice, base, plan, emit))
    rows = probe(setting.examples)
    own_modules = family_gap(base.model.config.model_type) is not None
    quantization = setting.options.quantization
    with rounded(base.model, quantization), float32_head(base.model):  # before its modules change
        expected = expect(PaddedScorer(base.model), rows, base.trainable, with_gradient=own_modules)
    trim_heap()  # of what that needed: a quarter of the weights' size, before their copies are made
    if plan.blocked_weights and isinstance(base.trainable, Adapter):
        setting.reserve.release()
    scorer = _together(setting, base, build_scorer(choice, base, plan, emit, quantization))
    compare(expected, scorer, base.trainable, base.computes)
    trim_heap()  # memory that was needed to make the copies
    return scorer


def _report(base: LoadedBase, plan: MemoryPlan, choice: StackChoice, device: Device, emit: Listener) -> None:
    emit(Log("info", f"{base.trainable.description}; at most {plan.micro_batch_tokens} tokens at once."))
    if plan.activation_checkpointing:
        emit(Log("info", "Memory is short for these rows: activations are recomputed in the backward pass."))
    if device.tf32:
        emit(Log("info", "All weights are float32, and their products are made in TF32."))
    if device.reason:
        emit(Log("warn", device.reason))
    emit(Log("info", choice.reason))


def _memory_plan(spec: TrainSpec, base: LoadedBase, device: Device, examples: Sequence[Example]) -> MemoryPlan:
    heaviest = max(added_tokens((), example.rows) for example in examples)
    shape, size = base.model.config.get_text_config(), base.computes.itemsize
    free = max(0, device.free_memory() - 3 * base.trainable.bytes_here)  # gradients and moments are not touched yet
    plan = make_plan(shape, size, heaviest, free, spec.micro_batch_tokens)
    if plan.activation_checkpointing and in_blocks(spec.options.quantization):  # only compiled layers read these
        plan = replace(plan, activation_checkpointing=False, micro_batch_tokens=LEAST_TOKENS)
    copies = (
        0
        if device.is_gpu or base.sharded
        else copies_of_weights(spec, examples, base.model.get_memory_footprint(), free)
    )
    why = "" if copies else "they are on a GPU" if device.is_gpu else no_copies_gap(spec, examples)
    plan = replace(plan, blocked_weights=copies > 0, unblocked=why, both_directions=copies == 2)
    return replace(plan, enough_tokens=plan.micro_batch_tokens) if device.is_gpu else plan  # a launch costs more there


def _reserve(spec: TrainSpec, device: Device, examples: Sequence[Example], ranks: Ranks) -> Reserve:
    """Memory for repacked weights, if there will be any; it is asked for while transformers is imported."""
    stored = sum(path.stat().st_size for path in spec.base_dir.glob("*.safetensors"))
    whole = ranks.size == 1 or spec.sharding != "full"
    wanted = whole and not device.is_gpu and spec.options.adapter == "lora" and spec.packing
    copies = copies_of_weights(spec, examples, stored, device.free_memory()) if wanted else 0
    stored_bytes = DTYPES[stored_width(spec.base_dir)].itemsize
    share = QUANTISED_BYTES.get(spec.options.quantization, stored_bytes) / stored_bytes
    return Reserve(round(share * repacked_bytes(spec.base_dir, copies)) if copies else 0)
