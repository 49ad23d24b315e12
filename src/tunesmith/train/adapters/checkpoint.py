"""What a run leaves on disk: tuned models, a journal, progress (`progress.py`).

    output_dir/checkpoints/step-000100/         an adapter or all weights; exists once its manifest.json does
    output_dir/adapter/                         the same of the last step
    output_dir/progress/step-000123-reported/   trained values, optimizer and position after step 123
    output_dir/journal.jsonl                    the step and checkpoint events so far, repeated by a resumed trainer

safetensors and JSON only. Everything is written under a temporary name, synced and renamed.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from tunesmith.models.adapters import MANIFEST_FILE, AdapterManifest
from tunesmith.models.answers import Answers, write_answers
from tunesmith.models.tuned import link_files
from tunesmith.system.atomic_write import make_directories, write_atomically
from tunesmith.train.protocol.events import Checkpoint, Step, from_json
from tunesmith.train.ranks.group import Ranks

Reported: TypeAlias = Step | Checkpoint  # what a resumed trainer reports again


def step_dir(parent: Path, step: int) -> Path:
    """The directory below `parent` of what belongs to a step."""
    return parent / f"step-{step:06d}"


@dataclass(frozen=True, slots=True)
class RunFiles:
    """The files below one run's output directory."""

    root: Path

    @property
    def checkpoints(self) -> Path:
        """Tuned models at the ends of epochs."""
        return self.root / "checkpoints"

    @property
    def progress(self) -> Path:
        """What a resumed run starts from."""
        return self.root / "progress"

    @property
    def adapter(self) -> Path:
        """The tuned model of the last step."""
        return self.root / "adapter"

    @property
    def journal(self) -> Path:
        """The events so far."""
        return self.root / "journal.jsonl"


class Written(Protocol):
    """A tuned model that can be written."""

    def write(self, directory: Path, manifest: AdapterManifest) -> None:
        """Writes it into `directory`, its manifest last."""
        ...


class Optimizer(Protocol):
    """Clips a gradient, and takes a step."""

    def norm(self) -> float:
        """The whole gradient's norm; not finite when any of its elements is not."""
        ...

    def step(self, rate: float, norm: float, max_norm: float) -> None:
        """Clips the gradient, whose norm is `norm`, to `max_norm` (0: never) and updates."""
        ...

    def state(self) -> dict[str, Tensor]:
        """The step and the moments, for `load`; of sharded ones on rank 0 only."""
        ...

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state` returned."""
        ...


class TrainableParameters(Protocol):
    """What a run trains: an adapter, or all weights.

    `sharded`: a rank has only a part of the values. Then all ranks call these methods, in the same order; rank 0 gets
    and gives what is whole.
    """

    sharded: bool

    @property
    def nbytes(self) -> int:
        """Of all values."""
        ...

    @property
    def bytes_here(self) -> int:
        """Of the values that this rank has."""
        ...

    @property
    def device(self) -> torch.device:
        """Where they are."""
        ...

    @property
    def description(self) -> str:
        """What is trained and how much of it, for the job's events."""
        ...

    def zero_grad(self) -> None:
        """Sets the gradients to zero."""
        ...

    def add_up(self, ranks: Ranks) -> None:
        """Makes the gradients the sums over all ranks."""
        ...

    def check_same(self, ranks: Ranks, step: int) -> None:
        """Raises TrainerError where ranks that should have the same values do not."""
        ...

    def optimizer(self, weight_decay: float) -> Optimizer:
        """What updates the values."""
        ...

    def values(self) -> Tensor | None:
        """All values in one tensor."""
        ...

    def take(self, values: Tensor | None) -> None:
        """Takes what `values` returned."""
        ...

    def gathered(self) -> Written:
        """The tuned model as it is now."""
        ...

    def restore(self, directory: Path | None) -> None:
        """Takes the values of a tuned model that was written."""
        ...


def save_checkpoint(files: RunFiles, model: Written, manifest: AdapterManifest, answers: Answers, keep: int) -> Path:
    """Writes the model of `manifest.step` and removes all but the newest `keep`.

    `answers`: what it is trained on.
    """
    path = step_dir(files.checkpoints, manifest.step)
    model.write(path, manifest)
    write_answers(path, answers)  # after the manifest: a model is complete without them
    finished = sorted(item.parent for item in files.checkpoints.glob(f"step-*/{MANIFEST_FILE}"))
    for old in finished[:-keep]:
        (old / MANIFEST_FILE).unlink()  # first: a directory without a manifest is no checkpoint
        shutil.rmtree(old)
    return path


def save_final(files: RunFiles, model: Written, manifest: AdapterManifest, answers: Answers) -> None:
    """Writes the model of the last step, or links its checkpoint where there is one."""
    last = step_dir(files.checkpoints, manifest.step)
    if (last / MANIFEST_FILE).is_file():
        link_files(last, files.adapter)
    else:
        model.write(files.adapter, manifest)
        write_answers(files.adapter, answers)


class Journal:
    """The events of finished steps.

    It is synced only together with the progress, and cut back to that on a resume.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: FileIO | None = None
        self._pending = b""

    @classmethod
    def resume(cls, path: Path, step: int) -> tuple["Journal", list[Reported]]:
        """The journal cut back to `step`, and the events that remain in it."""
        make_directories(path.parent)
        kept = [event for event in _events(path) if event.step <= step]
        write_atomically(path, "".join(map(_line, kept)).encode())
        return cls(path), kept

    def add(self, event: Reported) -> None:
        """Keeps an event for the next `flush`."""
        self._pending += _line(event).encode()

    def flush(self) -> None:
        """Appends what was added, not yet durably.

        Where the disk is full, the next call goes on with the rest.
        """
        if self._file is None:
            self._file = self._path.open("ab", buffering=0)
        while self._pending:
            self._pending = self._pending[self._file.write(self._pending) :]

    def sync(self) -> None:
        """Makes what was added durable."""
        self.flush()
        if self._file is not None:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()


def _line(event: Reported) -> str:
    return json.dumps(event.to_json(), ensure_ascii=False) + "\n"


def _events(path: Path) -> Iterator[Reported]:
    if not path.is_file():
        return
    for line in path.read_text("utf-8", errors="replace").splitlines():
        try:
            event = from_json(json.loads(line))
        except (ValueError, TypeError, AttributeError):  # what was being written at the end, or a damaged disk
            return
        if isinstance(event, Step | Checkpoint):
            yield event
