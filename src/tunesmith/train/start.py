"""From a spec to a run that is ready to train: files read, model loaded, adapter attached, progress restored."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch

from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject
from tunesmith.models.adapters import AdapterManifest, read_manifest
from tunesmith.models.directory import fingerprint as base_fingerprint
from tunesmith.render.renderer import Renderer, load_renderer
from tunesmith.system.atomic_write import write_atomically
from tunesmith.train.adapters.checkpoint import Journal, Progress, RunFiles, Trained, load_progress
from tunesmith.train.adapters.lora import Adapter
from tunesmith.train.core.device import Device, use_threads
from tunesmith.train.core.examples import Example, Sampler, read_examples
from tunesmith.train.core.interrupt import Interrupt
from tunesmith.train.core.optimizer import AdamW
from tunesmith.train.loop import Run
from tunesmith.train.objective import Objective, Preference, Supervised, answer_logprobs
from tunesmith.train.paths.flops import matmul_peak
from tunesmith.train.prepare import Model, prepare
from tunesmith.train.protocol.events import Listener, event
from tunesmith.train.protocol.spec import TrainSpec

DEFAULT_BETA = 0.1  # the DPO paper's


@dataclass(frozen=True, slots=True)
class Data:
    training: list[Example]
    validation: list[Example]
    renderer: Renderer


def start(spec: TrainSpec, emit: Listener, interrupt: Interrupt) -> Run:
    """Emits `started` and, on a resume, the events of the steps that are already done."""
    use_threads(spec.threads)
    if spec.nice:
        os.nice(spec.nice)
    data = read_data(spec)
    sampler = Sampler(data.training, spec.batch_size, spec.n_epochs, spec.seed)
    files = RunFiles(spec.output_dir)
    fingerprint = spec_fingerprint(spec)
    progress = load_progress(files, fingerprint)
    journal, past = Journal.resume(files.journal, progress.step if progress else 0)
    emit(_started(sampler, progress))
    for old in past:
        emit(old)
    plan_file = files.root / f"plan-{fingerprint[:16]}.json"
    model = prepare(spec, [*data.training, *data.validation], plan_file, emit)
    adapter = model.adapter
    run = Run(
        spec=spec,
        sampler=sampler,
        validation=data.validation,
        adapter=adapter,
        optimizer=AdamW(adapter.flat, adapter.grad, spec.weight_decay, adapter.matrices),
        objective=_objective(spec, model, data, files.root, fingerprint),
        manifest=_manifest(spec, adapter, data.renderer),
        fingerprint=fingerprint,
        files=files,
        journal=journal,
        emit=emit,
        interrupt=interrupt,
        epoch_tokens=sum(example.tokens for example in data.training),
        work=model.work,
        peak_flops=matmul_peak(Device.best()),
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
        value["init_adapter_dir"] = read_manifest(spec.init_adapter_dir).sha256
    value["base"] = base_fingerprint(spec.base_dir)
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


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


def _objective(spec: TrainSpec, model: Model, data: Data, folder: Path, fingerprint: str) -> Objective:
    if spec.method == "supervised":
        return Supervised(model.scorer, model.micro_batch_tokens)
    training, validation = (
        _references(model, examples, folder / f"references-{part}-{fingerprint[:16]}.json")
        for part, examples in (("training", data.training), ("validation", data.validation))
    )
    return Preference(model.scorer, model.micro_batch_tokens, spec.beta or DEFAULT_BETA, training, validation)


def _references(model: Model, examples: list[Example], path: Path) -> dict[int, tuple[float, float]]:
    """Computed once, before the first step, where the adapter still is as the job found it; then read from disk."""
    if path.is_file():
        return {int(line): (a, b) for line, (a, b) in json.loads(path.read_text("utf-8")).items()}
    known = answer_logprobs(model.scorer, examples, model.micro_batch_tokens)
    write_atomically(path, json.dumps(known).encode())
    return known


def _manifest(spec: TrainSpec, trained: Trained, renderer: Renderer) -> AdapterManifest:
    lora = trained if isinstance(trained, Adapter) else None
    return AdapterManifest(
        base_name=spec.base_name,
        base_fingerprint=base_fingerprint(spec.base_dir),
        renderer=renderer.name,
        rank=spec.lora.rank if lora else 0,
        alpha=spec.lora.alpha if lora else 0.0,
        target_modules=lora.target_modules if lora else (),
        step=0,
        adapter=spec.adapter,
    )
