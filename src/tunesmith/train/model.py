"""The model of a run: loaded, its adapter attached, and the way its rows are scored chosen and checked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.models.adapters import load_tensors
from tunesmith.models.weights import load_model
from tunesmith.train.accelerate import accelerate
from tunesmith.train.attention import UnsupportedAttention
from tunesmith.train.device import Device
from tunesmith.train.events import Listener, log
from tunesmith.train.examples import Example
from tunesmith.train.lora import Adapter, attach
from tunesmith.train.packing import added_tokens
from tunesmith.train.plan import MemoryPlan, kept_plan, make_plan
from tunesmith.train.scoring import PaddedScorer, Scorer, TreeScorer
from tunesmith.train.spec import TrainSpec
from tunesmith.train.verify import Disagreement, compare, plain_logprobs, probe

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class Model:
    adapter: Adapter
    scorer: Scorer
    micro_batch_tokens: int  # that go through it at once, at most


def prepare(spec: TrainSpec, examples: Sequence[Example], plan_file: Path, emit: Listener) -> Model:
    """`examples`: all that will be scored, the training rows first. The memory plan is kept in `plan_file`."""
    device = Device.best()
    model, adapter = _load(spec, device)
    plan = _memory_plan(spec, model, device, examples, plan_file)
    values = f"{adapter.parameter_count:,} values on {len(adapter.layers)} layers"
    emit(log("info", f"LoRA of rank {spec.lora.rank}: {values}; {plan.micro_batch_tokens} tokens at most at once."))
    if plan.activation_checkpointing:
        emit(log("info", "Memory is short for these rows: activations are recomputed in the backward pass."))
    trains = bool(spec.lora.dropout) or plan.activation_checkpointing
    if spec.packing:
        longest = max(len(row.ids) for example in examples for row in example.rows)
        rows = probe(examples)
        expected = plain_logprobs(PaddedScorer(model), rows)
        try:
            accelerate(model)
            tree = TreeScorer(model, longest, trains)
            compare(expected, tree, rows, model.dtype)
            return _planned(model, adapter, tree, plan)
        except (UnsupportedAttention, Disagreement) as reason:
            emit(log("warn", f"This base takes the padded path, slower and with the same result: {reason}."))
            model, adapter = _load(spec, device)
    return _planned(model, adapter, PaddedScorer(model, trains), plan)


def _planned(model: "PreTrainedModel", adapter: Adapter, scorer: Scorer, plan: MemoryPlan) -> Model:
    if plan.activation_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    return Model(adapter, scorer, plan.micro_batch_tokens)


def _load(spec: TrainSpec, device: Device) -> "tuple[PreTrainedModel, Adapter]":
    model = load_model(spec.base_dir, device.dtype, device.name)
    adapter = attach(model, spec.lora, spec.seed, model.get_output_embeddings())
    if spec.init_adapter_dir:
        adapter.load(load_tensors(spec.init_adapter_dir))
    return model, adapter


def _memory_plan(
    spec: TrainSpec, model: "PreTrainedModel", device: Device, examples: Sequence[Example], plan_file: Path
) -> MemoryPlan:
    heaviest = max(added_tokens((), example.rows) for example in examples)
    shape, size = model.config.get_text_config(), model.dtype.itemsize
    return kept_plan(plan_file, make_plan(shape, size, heaviest, device.free_memory(), spec.micro_batch_tokens))
