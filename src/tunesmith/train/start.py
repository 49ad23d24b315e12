"""From a spec to a run that is ready to train."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import TypeAdapter, ValidationError

from tunesmith.errors import InvalidRequest
from tunesmith.estimate.hyperparameters import AUTO_BETA
from tunesmith.jsonvalue import JsonObject
from tunesmith.models import directory
from tunesmith.models.adapters import AdapterManifest
from tunesmith.render.renderer import Renderer, load_renderer
from tunesmith.system.activity import doing
from tunesmith.system.checked_json import read_checked, write_checked
from tunesmith.train.adapters.checkpoint import Journal, RunFiles, TrainableParameters
from tunesmith.train.adapters.lora import Adapter
from tunesmith.train.adapters.progress import Checkpointed, Origin, Progress, load_progress
from tunesmith.train.core.device import Device, use_threads
from tunesmith.train.core.disk_room import LITTLE, DiskRoom
from tunesmith.train.core.examples import Example, Sampler, read_examples
from tunesmith.train.core.interrupt import Interrupt
from tunesmith.train.core.optimizer import AdamW
from tunesmith.train.fingerprint import spec_fingerprint
from tunesmith.train.loop import Run
from tunesmith.train.objective import Objective, Preference, Supervised, answer_logprobs
from tunesmith.train.paths.flops import matmul_peak
from tunesmith.train.prepare import PreparedModel, device_of, prepare
from tunesmith.train.protocol.events import Listener, Log, Started
from tunesmith.train.protocol.spec import TrainSpec

_REFERENCES = TypeAdapter(dict[int, tuple[float, float]])


@dataclass(frozen=True, slots=True)
class Data:
    """The rows of a run, and the renderer that made tokens of them."""

    training: list[Example]
    validation: list[Example]
    renderer: Renderer


def start(spec: TrainSpec, emit: Listener, interrupt: Interrupt) -> Run:
    """Returns a run that is ready to train.

    Emits `Started` and, on a resume, the events of the steps that are already done.
    """
    device = _prepared_device(spec)
    data = read_data(spec)
    sampler = Sampler(data.training, spec.batch_size, spec.n_epochs, spec.seed)
    files, fingerprint = RunFiles(spec.output_dir), spec_fingerprint(spec)
    origin, room = load_progress(files, fingerprint), DiskRoom(spec.output_dir, emit, interrupt)
    journal = _reported(files, _started(sampler, origin, device), origin, room)
    plan_file = files.root / f"plan-{fingerprint[:16]}.json"
    model = prepare(spec, [*data.training, *data.validation], plan_file, room, device)
    run = Run(
        spec=spec,
        sampler=sampler,
        validation=data.validation,
        trainable=model.trainable,
        optimizer=_optimizer(spec, model.trainable),
        objective=_objective(spec, model, data, room, fingerprint),
        manifest=_manifest(spec, model.trainable, data.renderer, fingerprint),
        fingerprint=fingerprint,
        files=files,
        journal=journal,
        room=room,
        interrupt=interrupt,
        work=model.work,
        peak_flops=matmul_peak(device),
    )
    return _restored(run, origin)


def _prepared_device(spec: TrainSpec) -> Device:
    device = device_of(spec)
    use_threads(spec.threads)
    if spec.nice and not device.is_gpu:  # the thread that feeds a GPU needs little time, and needs it at once
        os.nice(spec.nice)
    device.use()
    return device


@doing("reading the training file")
def read_data(spec: TrainSpec) -> Data:
    """Reads the files of a run.

    Raises InvalidRequest where there is no base, and DataError naming a line that cannot be trained.
    """
    if not (spec.base_dir / "config.json").is_file():
        raise InvalidRequest(f"The base model's directory {spec.base_dir} has no config.json.", param="model")
    renderer = load_renderer(spec.base_dir)
    training = read_examples(spec.training_file, renderer, spec.method, spec.max_tokens)
    validation = (
        read_examples(spec.validation_file, renderer, spec.method, spec.max_tokens) if spec.validation_file else []
    )
    return Data(training, validation, renderer)


def _restored(run: Run, origin: Origin) -> Run:
    if origin.progress:
        _restore_progress(run, origin.progress)
    elif origin.checkpoint:
        _restore_checkpoint(run, origin.checkpoint)
    return run


def _restore_progress(run: Run, progress: Progress) -> None:
    with torch.no_grad():
        run.trainable.flat.copy_(progress.tensors["adapter"])
    run.optimizer.load(progress.tensors)
    run.step, run.trained_tokens, run.unreported = progress.step, progress.trained_tokens, progress.unreported


def _restore_checkpoint(run: Run, checkpoint: Checkpointed) -> None:
    run.trainable.restore(checkpoint.directory)
    run.step = checkpoint.step
    batches = run.sampler.batches(after_step=0)
    run.trained_tokens = sum(batch.tokens for batch in batches if batch.step <= checkpoint.step)


def _reported(files: RunFiles, started: Started, origin: Origin, room: DiskRoom) -> Journal:
    """Emits what is known before the base is loaded; the journal of the steps that are done."""
    journal, past = room.write("the journal", LITTLE, lambda: Journal.resume(files.journal, origin.step))
    emit = room.emit
    emit(started)
    if origin.notice:
        emit(Log("warn", origin.notice))
    for event in past:
        emit(event)
    return journal


def _optimizer(spec: TrainSpec, trainable: TrainableParameters) -> AdamW:
    return AdamW(trainable.flat, trainable.grad, spec.options.weight_decay, trainable.matrices)


def _started(sampler: Sampler, origin: Origin, device: Device) -> Started:
    examples = sampler.examples
    return Started(
        total_steps=sampler.total_steps,
        steps_per_epoch=sampler.steps_per_epoch,
        examples=len(examples),
        tokens_per_epoch=sum(example.tokens for example in examples),
        learned_tokens_per_epoch=sum(example.learned for example in examples),
        resumed_from_step=origin.step,
        element_bytes=device.dtype.itemsize,
    )


def _objective(spec: TrainSpec, model: PreparedModel, data: Data, room: DiskRoom, fingerprint: str) -> Objective:
    if spec.method == "supervised":
        return Supervised(model.scorer, model.micro_batch_tokens, model.enough_tokens)
    training, validation = (
        _references(model, examples, spec.output_dir / f"references-{part}-{fingerprint[:16]}.json", room)
        for part, examples in (("training", data.training), ("validation", data.validation))
    )
    beta, most, enough = spec.beta or AUTO_BETA, model.micro_batch_tokens, model.enough_tokens
    return Preference(model.scorer, most, beta, training, validation, enough)


def _references(
    model: PreparedModel, examples: list[Example], path: Path, room: DiskRoom
) -> dict[int, tuple[float, float]]:
    """Computed once, before the first step, while the adapter is as the job found it; afterwards read from disk."""
    kept = read_checked(path)
    if kept is not None:
        with suppress(ValidationError):  # of a damaged file of an earlier release, which had no digest
            return _REFERENCES.validate_python(kept)
    known = answer_logprobs(model.scorer, examples, model.micro_batch_tokens, model.enough_tokens)
    plain: JsonObject = {str(line): list(pair) for line, pair in known.items()}
    room.write("what the untrained model says of the rows", LITTLE, lambda: write_checked(path, plain))
    return known


def _manifest(spec: TrainSpec, trainable: TrainableParameters, renderer: Renderer, fingerprint: str) -> AdapterManifest:
    lora = trainable if isinstance(trainable, Adapter) else None
    return AdapterManifest(
        base_name=spec.base_name,
        base_fingerprint=directory.fingerprint(spec.base_dir),
        renderer=renderer.name,
        rank=spec.options.lora_rank if lora else 0,
        alpha=spec.options.lora_alpha if lora else 0.0,
        target_modules=lora.target_modules if lora else (),
        step=0,
        adapter=spec.options.adapter,
        run=fingerprint,
    )
