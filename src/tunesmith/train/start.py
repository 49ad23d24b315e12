"""From a spec to a run that is ready to train: files read, model loaded, adapter attached, progress restored."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from tunesmith.data.render import Renderer, load_renderer
from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject
from tunesmith.models.adapters import AdapterManifest, load_tensors
from tunesmith.models.directory import fingerprint as base_fingerprint
from tunesmith.models.weights import load_model
from tunesmith.train.accelerate import accelerate
from tunesmith.train.attention import UnsupportedAttention
from tunesmith.train.checkpoint import Journal, Progress, RunFiles, load_progress
from tunesmith.train.events import Listener, event, log
from tunesmith.train.examples import Example, Sampler, read_examples
from tunesmith.train.interrupt import Interrupt
from tunesmith.train.loop import Run
from tunesmith.train.lora import Adapter, attach
from tunesmith.train.objective import Objective, Preference, Supervised, answer_logprobs
from tunesmith.train.optimizer import AdamW
from tunesmith.train.packing import added_tokens
from tunesmith.train.plan import MemoryPlan, free_memory, kept_plan, make_plan
from tunesmith.train.scoring import PaddedScorer, Scorer, TreeScorer
from tunesmith.train.spec import TrainSpec
from tunesmith.train.verify import Disagreement, compare, plain_logprobs, probe

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DEFAULT_BETA = 0.1  # the DPO paper's


@dataclass(frozen=True, slots=True)
class Data:
    training: list[Example]
    validation: list[Example]
    renderer: Renderer


def start(spec: TrainSpec, emit: Listener, interrupt: Interrupt) -> Run:
    """Emits `started` and, on a resume, the events of the steps that are already done."""
    _use_machine(spec)
    data = read_data(spec)
    sampler = Sampler(data.training, spec.batch_size, spec.n_epochs, spec.seed)
    files = RunFiles(spec.output_dir)
    fingerprint = spec_fingerprint(spec)
    progress = load_progress(files, fingerprint)
    journal, past = Journal.resume(files.journal, progress.step if progress else 0)
    emit(_started(sampler, progress))
    for old in past:
        emit(old)
    adapter, scorer, budget = _model(spec, data, files, emit)
    objective = _objective(spec, scorer, data, files, budget)
    run = Run(
        spec=spec,
        sampler=sampler,
        validation=data.validation,
        adapter=adapter,
        optimizer=AdamW(adapter.flat, adapter.grad, spec.weight_decay),
        objective=objective,
        manifest=_manifest(spec, adapter, data.renderer),
        fingerprint=fingerprint,
        files=files,
        journal=journal,
        emit=emit,
        interrupt=interrupt,
    )
    if progress:
        restore(run, progress)
    return run


def read_data(spec: TrainSpec) -> Data:
    if not (spec.base_dir / "config.json").is_file():
        raise InvalidRequest(f"The base model's directory {spec.base_dir} has no config.json.", param="model")
    renderer = load_renderer(spec.base_dir)
    training = read_examples(spec.training_file, renderer, spec.method, spec.max_tokens)
    validation = (
        read_examples(spec.validation_file, renderer, spec.method, spec.max_tokens) if spec.validation_file else []
    )
    return Data(training, validation, renderer)


def restore(run: Run, progress: Progress) -> None:
    with torch.no_grad():
        run.adapter.flat.copy_(progress.tensors["adapter"])
    run.optimizer.load(progress.tensors)
    run.step, run.trained_tokens, run.unreported = progress.step, progress.trained_tokens, progress.unreported


def spec_fingerprint(spec: TrainSpec) -> str:
    """Changes with anything that changes the result; the same for every attempt at a job, wherever its files lie."""
    value = spec.to_json()
    for name in ("attempt", "job_id", "nice", "keep_checkpoints", "checkpoint_seconds", "output_dir", "base_dir"):
        value.pop(name)
    for name, path in (("training_file", spec.training_file), ("validation_file", spec.validation_file)):
        value[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path else None
    if spec.init_adapter_dir:
        value["init_adapter_dir"] = json.loads((spec.init_adapter_dir / "manifest.json").read_text("utf-8"))["sha256"]
    value["base"] = base_fingerprint(spec.base_dir)
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _use_machine(spec: TrainSpec) -> None:
    torch.set_num_threads(spec.threads or len(os.sched_getaffinity(0)))
    if spec.nice:
        os.nice(spec.nice)


def _started(sampler: Sampler, progress: Progress | None) -> JsonObject:
    examples = sampler.examples
    return event(
        "started",
        total_steps=sampler.total_steps,
        steps_per_epoch=sampler.steps_per_epoch,
        examples=len(examples),
        tokens_per_epoch=sum(example.tokens for example in examples),
        learned_tokens_per_epoch=sum(example.learned for example in examples),
        resumed_from_step=progress.step if progress else 0,
    )


def _model(spec: TrainSpec, data: Data, files: RunFiles, emit: Listener) -> tuple[Adapter, Scorer, int]:
    """The model with its adapter, the way its rows are scored, and the tokens that go through it at once."""
    model, adapter = _load(spec)
    longest = max(len(row.ids) for example in (*data.training, *data.validation) for row in example.rows)
    plan = _memory_plan(spec, model, data, files)
    if plan.activation_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
        model.train()  # transformers checkpoints only in training mode
        emit(log("info", "Memory is short for these rows: activations are recomputed in the backward pass."))
    values = f"{adapter.parameter_count:,} values on {len(adapter.layers)} layers"
    emit(log("info", f"LoRA of rank {spec.lora.rank}: {values}; {plan.micro_batch_tokens} tokens at most at once."))
    if spec.packing:
        rows = probe(data.training)
        expected = plain_logprobs(PaddedScorer(model), rows)
        try:
            accelerate(model)
            scorer = TreeScorer(model, longest)
            compare(expected, scorer, rows, model.dtype)
            return adapter, scorer, plan.micro_batch_tokens
        except (UnsupportedAttention, Disagreement) as reason:
            emit(log("warn", f"This base takes the padded path, slower and with the same result: {reason}."))
            model, adapter = _load(spec)
    return adapter, PaddedScorer(model), plan.micro_batch_tokens


def _load(spec: TrainSpec) -> "tuple[PreTrainedModel, Adapter]":
    model = load_model(spec.base_dir, torch.float32)
    if spec.lora.dropout:
        model.train()
    adapter = attach(model, spec.lora, spec.seed, model.get_output_embeddings())
    if spec.init_adapter_dir:
        adapter.load(load_tensors(spec.init_adapter_dir))
    return model, adapter


def _memory_plan(spec: TrainSpec, model: "PreTrainedModel", data: Data, files: RunFiles) -> MemoryPlan:
    heaviest = max(added_tokens((), example.rows) for example in (*data.training, *data.validation))
    shape, size = model.config.get_text_config(), model.dtype.itemsize
    made = make_plan(shape, size, heaviest, free_memory(), spec.micro_batch_tokens)
    return kept_plan(files.root / "plan.json", made)


def _objective(spec: TrainSpec, scorer: Scorer, data: Data, files: RunFiles, budget: int) -> Objective:
    if spec.method == "supervised":
        return Supervised(scorer, budget)
    training = _references(scorer, data.training, budget, files.root / "references.json")
    validation = _references(scorer, data.validation, budget, files.root / "validation_references.json")
    return Preference(scorer, budget, spec.beta or DEFAULT_BETA, training, validation)


def _references(scorer: Scorer, examples: list[Example], budget: int, path: Path) -> dict[int, tuple[float, float]]:
    """Computed once, before the first step, where the adapter still is as the job found it; then read from disk."""
    if path.is_file():
        return {int(line): (a, b) for line, (a, b) in json.loads(path.read_text("utf-8")).items()}
    known = answer_logprobs(scorer, examples, budget)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(known), "utf-8")
    partial.replace(path)
    return known


def _manifest(spec: TrainSpec, adapter: Adapter, renderer: Renderer) -> AdapterManifest:
    return AdapterManifest(
        base_name=spec.base_name,
        base_fingerprint=base_fingerprint(spec.base_dir),
        renderer=renderer.name,
        rank=spec.lora.rank,
        alpha=spec.lora.alpha,
        target_modules=adapter.target_modules,
        step=0,
    )
