"""Trains a model again from its record, and compares the bits.

On a processor the trainer gives the same bits for the same inputs on one machine: data, base, options, seed, versions,
threads. Where the bits differ, what of these has changed is named; a GPU may give others each time. Imports no torch.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from tunesmith.errors import InvalidRequest, TrainerError
from tunesmith.export.cards.base_facts import base_digest
from tunesmith.export.cards.machine import Machine, versions
from tunesmith.export.cards.training_record import TrainingRecord
from tunesmith.jsonvalue import JsonObject
from tunesmith.launch.output import LineReader, log_tail
from tunesmith.launch.protocol import Launcher, Start
from tunesmith.models.adapters import read_manifest
from tunesmith.system.atomic_write import sha256_of
from tunesmith.train.fingerprint import spec_fingerprint
from tunesmith.train.protocol.environment import trainer_environment
from tunesmith.train.protocol.events import Checkpoint, Done, Event, Failed, events_of
from tunesmith.train.protocol.spec import TrainSpec

POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Change:
    """An input that is not as it was."""

    name: str
    before: str
    now: str

    def __str__(self) -> str:
        """The change in words."""
        return f"{self.name}: {self.before} then, {self.now} now"


@dataclass(frozen=True, slots=True)
class Reproduced:
    """What came out of a second training."""

    sha256: str  # of the tuned weights
    expected: str
    changes: tuple[Change, ...]

    @property
    def equal(self) -> bool:
        """Whether all bits are the same."""
        return self.sha256 == self.expected


def spec_of(record: TrainingRecord, today: TrainSpec, output: Path) -> TrainSpec:
    """The spec of the first training with the paths of `today`'s, into `output`."""
    return TrainSpec.from_json({**today.to_json(), **cast(JsonObject, record.spec), "output_dir": str(output)})


def lost_inputs(record: TrainingRecord, spec: TrainSpec) -> list[Change]:
    """Files that are not what was trained on: another training would be another model."""
    found = [_file_change("the training file", record.training.sha256, spec.training_file)]
    if record.validation is not None and spec.validation_file is not None:
        found.append(_file_change("the validation file", record.validation.sha256, spec.validation_file))
    if record.base.sha256 is not None:
        found.append(_change("the base's files (SHA-256)", record.base.sha256, base_digest(spec.base_dir)))
    return [one for one in found if one is not None]


def other_changes(record: TrainingRecord) -> list[Change]:
    """Versions and hardware that are not those that trained."""
    found: list[Change | None] = []
    if record.versions is not None:
        today = versions()
        found += [_change(f"version of {name}", record.versions.get(name, "-"), now) for name, now in today.items()]
    if record.machine is not None:
        here = Machine.this(record.machine.threads)
        then = record.machine
        found.append(_change("processor", then.processor, here.processor))
        found.append(_change("processor features", " ".join(then.features), " ".join(here.features)))
        found.append(_change("system", then.system, here.system))
        found.append(_change("GPUs", ", ".join(then.gpus) or "none", ", ".join(here.gpus) or "none"))
    return [one for one in found if one is not None]


def changed_record(record: TrainingRecord, spec: TrainSpec, directory: Path) -> list[Change]:
    """Where the record is not of the model beside it, or was changed.

    The model's own manifest has the digest of all that decided its training.
    """
    manifest = read_manifest(directory)
    found = [_change("SHA-256 of the tuned weights", manifest.sha256, record.sha256)]
    if manifest.run:
        found.append(_change("digest of data, base and options", manifest.run, spec_fingerprint(spec)))
    return [one for one in found if one is not None]


def as_many_threads(spec: TrainSpec, record: TrainingRecord) -> TrainSpec:
    """The spec with as many threads as trained then: the order of sums depends on it."""
    return spec if record.machine is None else replace(spec, threads=record.machine.threads)


def train_again(spec: TrainSpec, scratch: Path, launcher: Launcher, heard: Callable[[Event], None]) -> dict[int, str]:
    """Trains the spec; the SHA-256 of the tuned weights by step.

    Raises TrainerError with the trainer's words where it fails.
    """
    spec.write(scratch / "spec.json")
    start = Start(
        spec=scratch / "spec.json",
        events=scratch / "events.jsonl",
        log=scratch / "trainer.log",
        lock=scratch / "trainer.lock",
        environment=trainer_environment(),
    )
    found: dict[int, str] = {}
    trainer, reader = launcher.start(start), LineReader(start.events)
    try:
        status: int | None = None
        while status is None:
            status = trainer.poll()
            for event in events_of(reader.read()):
                heard(event)
                found |= _made(event)
            time.sleep(POLL_SECONDS if status is None else 0)
    finally:
        trainer.stop()
    if status != 0:
        raise TrainerError(f"The trainer ended with status {status}. Its last words: {log_tail(start.log)}")
    return found


def _made(event: Event) -> dict[int, str]:
    """The step and digest of the model that an event tells of."""
    if isinstance(event, Failed):
        raise TrainerError(event.message, code=event.code, param=event.param)
    if not isinstance(event, Checkpoint | Done):
        return {}
    manifest = read_manifest(Path(event.path))
    return {manifest.step: manifest.sha256}


def compare(record: TrainingRecord, trained: dict[int, str]) -> Reproduced:
    """The second training beside the first."""
    if record.step not in trained:
        raise InvalidRequest(
            f"The model is of step {record.step}, and the training has kept steps {sorted(trained)} only."
        )
    again = trained[record.step]
    return Reproduced(again, record.sha256, () if again == record.sha256 else tuple(other_changes(record)))


def _file_change(name: str, before: str, path: Path) -> Change | None:
    return _change(f"{name} (SHA-256)", before, sha256_of(path) if path.is_file() else "no file")


def _change(name: str, before: str, now: str) -> Change | None:
    return None if before == now else Change(name, before, now)
