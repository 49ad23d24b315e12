"""The model of a run: loaded, its adapter attached, and the way its rows are scored chosen and checked."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from tunesmith.errors import InvalidRequest
from tunesmith.kernels.compiler import is_cached, precompile
from tunesmith.kernels.train_step import training_step
from tunesmith.models.adapters import MANIFEST_FILE, load_tensors
from tunesmith.models.weights import load_model
from tunesmith.system.pages import Reserve, trim_heap
from tunesmith.train.adapters.checkpoint import Trained
from tunesmith.train.adapters.full_finetuning import WholeModel, required_memory
from tunesmith.train.adapters.lora import Adapter, attach
from tunesmith.train.core.device import Device
from tunesmith.train.core.examples import Example
from tunesmith.train.core.packing import added_tokens
from tunesmith.train.core.plan import SMALL_COMPILED_STEP, MemoryPlan, kept_plan, make_plan, weight_copies
from tunesmith.train.layers.attention import UnsupportedAttention
from tunesmith.train.paths.accelerate import accelerate
from tunesmith.train.paths.compiled import FAMILIES, CompiledLayers, supports
from tunesmith.train.paths.flops import Work
from tunesmith.train.paths.scoring import PaddedScorer, Scorer, TreeScorer
from tunesmith.train.paths.verify import Disagreement, compare, plain_logprobs, probe
from tunesmith.train.protocol.events import Listener, log
from tunesmith.train.protocol.spec import TrainSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class Model:
    adapter: Trained
    scorer: Scorer
    micro_batch_tokens: int  # that go through it at once, at most
    work: Work


def prepare(spec: TrainSpec, examples: Sequence[Example], plan_file: Path, emit: Listener) -> Model:
    """`examples`: all that will be scored, the training rows first. The memory plan is kept in `plan_file`."""
    device = Device.best()
    reserve = _reserve(spec, device, examples)
    model, adapter = _load(spec, device)
    work = Work.of(model, adapter)
    plan = _memory_plan(spec, model, adapter, device, examples, plan_file)
    emit(log("info", f"{adapter.description}; {plan.micro_batch_tokens} tokens at most at once."))
    if plan.activation_checkpointing:
        emit(log("info", "Memory is short for these rows: activations are recomputed in the backward pass."))
    trains = bool(spec.lora.dropout) or plan.activation_checkpointing
    if spec.packing:
        rows = probe(examples)
        expected = plain_logprobs(PaddedScorer(model), rows)
        try:
            if isinstance(adapter, Adapter) and plan.blocked_weights:
                reserve.release()
            layers = _compiled_layers(spec, model, adapter, plan, emit)
            if spec.quantization == "none" and layers is None:
                accelerate(model)
            tree = TreeScorer(model, trains, layers)
            if isinstance(adapter, Adapter) and plan.blocked_weights:
                if layers is None:
                    adapter.pack_frozen()
                tree.pack_head()
            compare(expected, tree, rows, model.dtype)
            trim_heap()  # of making the copies
            return _planned(model, adapter, tree, plan, work)
        except (UnsupportedAttention, Disagreement) as reason:
            emit(log("warn", f"This base takes the padded path, slower and with the same result: {reason}."))
            model, adapter = _load(spec, device)
    return _planned(model, adapter, PaddedScorer(model, trains), plan, work)


def _compiled_layers(
    spec: TrainSpec, model: "PreTrainedModel", adapter: Trained, plan: MemoryPlan, emit: Listener
) -> CompiledLayers | None:
    """None: for this model, or with this plan, its own layers."""
    wanted = plan.blocked_weights and not plan.activation_checkpointing and not spec.lora.dropout
    if not wanted or not isinstance(adapter, Adapter) or not supports(model, adapter):
        return None
    if not is_cached(training_step):
        emit(log("info", "Compiling for this processor, once; it takes some 20 seconds."))
        precompile("training", training_step)
    return CompiledLayers(model, adapter, plan.both_directions)


def _planned(model: "PreTrainedModel", adapter: Trained, scorer: Scorer, plan: MemoryPlan, work: Work) -> Model:
    if plan.activation_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    return Model(adapter, scorer, plan.micro_batch_tokens, work)


def _load(spec: TrainSpec, device: Device) -> "tuple[PreTrainedModel, Trained]":
    if spec.adapter == "none":
        return _load_whole(spec, device)
    model = load_model(spec.base_dir, device.dtype, device.name, spec.quantization)
    adapter = attach(model, spec.lora, spec.seed, model.get_output_embeddings())
    if spec.init_adapter_dir:
        adapter.load(load_tensors(spec.init_adapter_dir))
    if (spec.base_dir / MANIFEST_FILE).is_file():
        adapter.own_base = spec.base_dir
    return model, adapter


def _load_whole(spec: TrainSpec, device: Device) -> "tuple[PreTrainedModel, Trained]":
    model = load_model(spec.base_dir, torch.float32, device.name)
    needed, free = required_memory(model.num_parameters()), device.free_memory()
    if needed > free:
        raise InvalidRequest(
            f"Training all {model.num_parameters():,} weights takes {needed / 1e9:.1f} GB for them, their gradients "
            f"and the optimizer, without activations; {free / 1e9:.1f} GB are free. Train a LoRA ('adapter': 'lora'), "
            "take a smaller base, or free memory.",
            param="tunesmith.adapter",
            code="out_of_memory",
        )
    whole = WholeModel(model, spec.base_dir)
    if spec.init_adapter_dir:
        whole.merge(spec.init_adapter_dir)
    return model, whole


def _memory_plan(
    spec: TrainSpec,
    model: "PreTrainedModel",
    trained: Trained,
    device: Device,
    examples: Sequence[Example],
    plan_file: Path,
) -> MemoryPlan:
    heaviest = max(added_tokens((), example.rows) for example in examples)
    shape, size = model.config.get_text_config(), model.dtype.itemsize
    free = max(0, device.free_memory() - 3 * trained.flat.nbytes)  # gradients and moments are not touched yet
    plan = make_plan(shape, size, heaviest, free, spec.micro_batch_tokens)
    copies = _copies(spec, examples, model.get_memory_footprint(), free)
    return kept_plan(plan_file, replace(plan, blocked_weights=copies > 0, both_directions=copies == 2))


def _copies(spec: TrainSpec, examples: Sequence[Example], weight_bytes: int, free: int) -> int:
    """Other layouts of the frozen weights."""
    if spec.blocked_weights is False:
        return 0
    tokens = sum(example.tokens for example in examples)
    family = json.loads((spec.base_dir / "config.json").read_text("utf-8")).get("model_type")
    compiled = family in FAMILIES and not spec.lora.dropout
    step_tokens = spec.batch_size * tokens / len(examples)
    if spec.blocked_weights:
        return 1 if compiled and step_tokens > SMALL_COMPILED_STEP else 2
    return weight_copies(step_tokens, spec.n_epochs * tokens, weight_bytes, free, compiled=compiled)


def _reserve(spec: TrainSpec, device: Device, examples: Sequence[Example]) -> Reserve:
    """Memory for blocked weights, if there will be such; asked for while transformers is imported."""
    stored = sum(path.stat().st_size for path in spec.base_dir.glob("*.safetensors"))
    wanted = device.name == "cpu" and spec.adapter == "lora" and spec.packing
    return Reserve(stored * _copies(spec, examples, stored, device.free_memory()) if wanted else 0)
