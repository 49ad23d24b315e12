"""From a spec to a run that is ready to train."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pydantic import TypeAdapter

from tunesmith.errors import InvalidRequest
from tunesmith.estimate.hyperparameters import AUTO_BETA
from tunesmith.jsonvalue import JsonObject
from tunesmith.models import directory
from tunesmith.models.adapters import AdapterManifest
from tunesmith.render.renderer import Renderer, load_renderer
from tunesmith.system.activity import doing
from tunesmith.train.adapters.checkpoint import Journal, RunFiles, TrainableParameters
from tunesmith.train.adapters.lora import Adapter
from tunesmith.train.adapters.progress import Origin, load_progress
from tunesmith.train.core.device import Device, use_threads
from tunesmith.train.core.disk_room import LITTLE, DiskRoom
from tunesmith.train.core.examples import Example, Sampler, read_examples
from tunesmith.train.core.interrupt import Interrupt
from tunesmith.train.fingerprint import deciding_values, digest_of
from tunesmith.train.loop import Run
from tunesmith.train.objective import Objective, Preference, Supervised
from tunesmith.train.paths.flops import matmul_peak
from tunesmith.train.prepare import PreparedModel, device_of, prepare
from tunesmith.train.protocol.events import Listener, Log, Started, Step
from tunesmith.train.protocol.spec import TrainSpec
from tunesmith.train.ranks.agreement import check_same_job
from tunesmith.train.ranks.group import ONE_RANK, Ranks
from tunesmith.train.references import References

_Beginning = TypeAdapter(tuple[int, int, dict[str, object] | None])  # step, trained tokens, measures not yet reported

_Found = TypeAdapter(list[bool])


@dataclass(frozen=True, slots=True)
class Data:
    """The rows of a run, and the renderer that made tokens of them."""

    training: list[Example]
    validation: list[Example]
    renderer: Renderer


@dataclass(frozen=True, slots=True)
class _Output:
    """Where a run writes, and what is known of it before its base is loaded."""

    files: RunFiles
    fingerprint: str
    sampler: Sampler
    origin: Origin
    journal: Journal
    room: DiskRoom
    ranks: Ranks

    @property
    def plan_file(self) -> Path:
        return self.files.root / f"plan-{self.fingerprint[:16]}.json"


def start(
    spec: TrainSpec, emit: Listener, interrupt: Interrupt, ranks: Ranks = ONE_RANK, device: Device | None = None
) -> Run:
    """Returns a run that is ready to train on `device`, or on the spec's.

    Emits `Started` and, on a resume, the events of the steps that are already done. Only rank 0 writes.
    """
    device = _prepared(device or device_of(spec, ranks.place), spec)
    data, values = read_data(spec), deciding_values(spec)
    check_same_job(ranks, values)
    output = _output(spec, data, digest_of(values), DiskRoom(spec.output_dir, emit, interrupt), ranks, device)
    model = prepare(spec, [*data.training, *data.validation], output.plan_file, output.room, device, ranks)
    run = _run(spec, model, data, output, interrupt, device)
    _restore(run, output.origin)
    _share(run)
    run.saved_step = run.step
    return run


def _run(
    spec: TrainSpec, model: PreparedModel, data: Data, output: _Output, interrupt: Interrupt, device: Device
) -> Run:
    ranks = output.ranks
    return Run(
        spec=spec,
        sampler=output.sampler,
        validation=data.validation,
        trainable=model.trainable,
        optimizer=model.trainable.optimizer(spec.options.weight_decay),
        objective=_objective(spec, model, data, output),
        manifest=_manifest(spec, model.trainable, data.renderer, output.fingerprint),
        fingerprint=output.fingerprint,
        files=output.files,
        journal=output.journal,
        room=output.room,
        interrupt=interrupt,
        work=model.work,
        peak_flops=ranks.totals([matmul_peak(device)])[0],
        ranks=ranks,
        sharded=model.sharded,
    )


def _output(spec: TrainSpec, data: Data, fingerprint: str, room: DiskRoom, ranks: Ranks, device: Device) -> _Output:
    """Emits what is known already."""
    sampler = Sampler(data.training, spec.batch_size, spec.n_epochs, spec.seed)
    files = RunFiles(spec.output_dir)
    if not ranks.leads:
        return _Output(files, fingerprint, sampler, Origin(), Journal(files.journal), room, ranks)
    origin = load_progress(files, fingerprint)
    journal = _reported(files, _started(sampler, origin, device), origin, room)
    for text in _on_the_setting(spec, ranks):
        room.emit(Log("info", text))
    if ranks.size > spec.batch_size:
        few = f"A step has {spec.batch_size} rows for {ranks.size} ranks: the others only wait"
        room.emit(Log("warn", f"{few}. Raise batch_size, or start fewer ranks"))
    return _Output(files, fingerprint, sampler, origin, journal, room, ranks)


def _on_the_setting(spec: TrainSpec, ranks: Ranks) -> Iterator[str]:
    """What somebody set for this run or server, and no other event says."""
    if spec.options.quantization != "none":
        yield f"The base's weights are frozen in {spec.options.quantization}; what is trained stands beside them."
    if ranks.size > 1:
        yield f"{ranks.size} ranks train this run together; each takes its part of every step's rows."


def _prepared(device: Device, spec: TrainSpec) -> Device:
    use_threads(spec.threads, device.sharers)
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


def _restore(run: Run, origin: Origin) -> None:
    """Where this rank begins, by what rank 0 has on its disk; sharded values are given to all."""
    progress, checkpoint = origin.progress, origin.checkpoint
    found = [progress is not None, checkpoint is not None]
    if run.trainable.sharded:
        found = _Found.validate_python(run.ranks.of_first([*found]))
    if found[0]:
        tensors = progress.tensors if progress else {}
        run.trainable.take(tensors.get("adapter"))
        run.optimizer.load(tensors)
    elif found[1]:
        run.trainable.restore(checkpoint.directory if checkpoint else None)
    if progress:
        run.step, run.trained_tokens, run.unreported = progress.step, progress.trained_tokens, progress.unreported
    elif checkpoint:
        run.step = checkpoint.step
        batches = run.sampler.batches(after_step=0)
        run.trained_tokens = sum(batch.tokens for batch in batches if batch.step <= checkpoint.step)


def _share(run: Run) -> None:
    """Has every rank begin where rank 0 does: the others may not see its disk."""
    if run.ranks.size == 1:
        return
    unreported = run.unreported.to_json() if run.unreported else None
    first = _Beginning.validate_python(run.ranks.of_first([run.step, run.trained_tokens, unreported]))
    run.step, run.trained_tokens = first[:2]
    run.unreported = Step.from_json(cast(JsonObject, first[2])) if first[2] else None
    if run.trainable.sharded:
        return
    for tensor in (run.trainable.values(), *(run.optimizer.state().values() if run.step else ())):
        if tensor is not None:
            run.ranks.copy_from_first(tensor)


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


def _objective(spec: TrainSpec, model: PreparedModel, data: Data, output: _Output) -> Objective:
    ranks, references = output.ranks, References(spec.output_dir, output.fingerprint, output.room, output.ranks)
    if spec.method == "supervised":
        return Supervised(model.scorer, model.micro_batch_tokens, model.enough_tokens, ranks)
    training = references.of("training", model, data.training)
    validation = references.of("validation", model, data.validation)
    beta, most, enough = spec.beta or AUTO_BETA, model.micro_batch_tokens, model.enough_tokens
    return Preference(model.scorer, most, beta, training, validation, enough, ranks)


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
