"""The state that a resumed run goes on from; what is damaged is passed over.

Digests tell it. After a power cut or on a failing disk the newest progress may be unusable. A run then goes on from the
progress before it, else from its newest checkpoint (without the optimizer's moments), else from the start, and says so.
"""

import errno
import json
import shutil
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tunesmith.errors import TunesmithError
from tunesmith.jsonvalue import JsonObject
from tunesmith.models.adapters import MANIFEST_FILE, read_manifest
from tunesmith.models.tuned import check_weights
from tunesmith.system.atomic_write import make_directories, rename_durably, sha256_of
from tunesmith.train.adapters.checkpoint import RunFiles, step_dir
from tunesmith.train.protocol.events import Step

STATE_FILE = "state.json"
TENSORS_FILE = "state.safetensors"
TWO_BELOW_BYTES = 1 << 30  # the progress before the newest is kept too, unless it takes more than this
OLD_KEYS = {"step", "trained_tokens", "unreported", "fingerprint"}  # of releases before the digests
DAMAGE = (ValueError, KeyError, TypeError, AttributeError, SafetensorError)
MISSING = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO)


@dataclass(frozen=True, slots=True)
class Progress:
    """All that a resumed run needs.

    The order of rows and random numbers are functions of seed and step.
    """

    step: int
    trained_tokens: int
    unreported: Step | None  # measures of the last step, if it was not reported yet
    fingerprint: str  # of what decides the result; a changed job does not resume
    tensors: dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Checkpointed:
    """A checkpoint to go on from: trained values only."""

    directory: Path
    step: int


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a run begins: a progress, else a checkpoint, else (neither) the start.

    `damaged`: what was passed over, each as "step-000123 (why)".
    """

    progress: Progress | None = None
    checkpoint: Checkpointed | None = None
    damaged: tuple[str, ...] = ()

    @property
    def step(self) -> int:
        """The last step that need not be trained again."""
        found = self.progress or self.checkpoint
        return found.step if found else 0

    @property
    def notice(self) -> str | None:
        """For the job's owner; None where nothing was damaged."""
        if not self.damaged:
            return None
        if self.progress:
            place = f"an older progress, after step {self.step}"
        elif self.checkpoint:
            place = f"its newest checkpoint, after step {self.step}; the optimizer begins anew there"
        else:
            place = "the start"
        return f"The saved progress is damaged: {', '.join(self.damaged)}. Training goes on from {place}"


def save_progress(files: RunFiles, progress: Progress) -> None:
    """Durable when it returns; of those before it only the newest is left."""
    final = step_dir(files.progress, progress.step)
    if progress.unreported is None:  # sorts after the same step before its report
        final = final.with_name(f"{final.name}-reported")
    if final.is_dir():
        return
    partial = final.with_name(f".{final.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    make_directories(files.progress)
    try:
        _write(partial, progress)
        rename_durably(partial, final)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)  # on a full disk, others need its room
        raise
    _remove_old(files, final)


def _write(folder: Path, progress: Progress) -> None:
    folder.mkdir()
    save_file({name: tensor.contiguous() for name, tensor in progress.tensors.items()}, folder / TENSORS_FILE)
    (folder / STATE_FILE).write_text(json.dumps(_state(progress, sha256_of(folder / TENSORS_FILE))), "utf-8")


def _state(progress: Progress, tensors_sha256: str) -> JsonObject:
    unreported = progress.unreported.to_json() if progress.unreported else {}
    unreported.pop("type", None)
    state: JsonObject = {
        "step": progress.step,
        "trained_tokens": progress.trained_tokens,
        "unreported": unreported,
        "fingerprint": progress.fingerprint,
        "tensors_sha256": tensors_sha256,
    }
    return {**state, "sha256": _digest(state)}


def _digest(state: JsonObject) -> str:
    return sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _remove_old(files: RunFiles, newest: Path) -> None:
    others = sorted((path for path in files.progress.iterdir() if path != newest), reverse=True)
    before = next((path for path in others if path.name.startswith("step-")), None)
    small = before is not None and sum(file.stat().st_size for file in before.iterdir()) <= TWO_BELOW_BYTES
    for old in others:
        if not (old == before and small):
            shutil.rmtree(old)


def load_progress(files: RunFiles, fingerprint: str) -> Origin:
    """The newest state of the same job that is whole.

    Removes what another job left, and what is damaged.
    """
    damaged = []
    for path in sorted(files.progress.glob("step-*"), reverse=True):
        try:
            found = _read(path, fingerprint)
        except DAMAGE as error:
            damaged.append(f"{path.name} ({error})")
        except OSError as error:
            if error.errno not in MISSING:
                raise
            damaged.append(f"{path.name} ({Path(error.filename or path).name}: {error.strerror})")
        else:
            if found is not None:
                return Origin(found, damaged=tuple(damaged))
        _remove(path)
    return Origin(None, _newest_checkpoint(files, fingerprint) if damaged else None, tuple(damaged))


def _read(path: Path, fingerprint: str) -> Progress | None:
    """None where it is another job's. Raises one of DAMAGE, or OSError."""
    state = _json(path / STATE_FILE)
    old = set(state) == OLD_KEYS
    if not old and state.pop("sha256", None) != _digest(state):
        raise ValueError(f"{STATE_FILE} was changed")
    if state["fingerprint"] != fingerprint:
        return None
    if not old and state.get("tensors_sha256") != sha256_of(path / TENSORS_FILE):
        raise ValueError(f"{TENSORS_FILE} is not whole")
    tensors = load_file(path / TENSORS_FILE)
    unreported = Step.from_json(state["unreported"]) if state["unreported"] else None
    return Progress(state["step"], state["trained_tokens"], unreported, fingerprint, tensors)


def _json(path: Path) -> dict[str, Any]:
    try:
        state = json.loads(path.read_bytes())
    except ValueError:
        state = None
    if not isinstance(state, dict) or not set(state) >= OLD_KEYS:
        raise ValueError(f"{path.name} is not whole")
    return state


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _newest_checkpoint(files: RunFiles, fingerprint: str) -> Checkpointed | None:
    for path in sorted(files.checkpoints.glob(f"step-*/{MANIFEST_FILE}"), reverse=True):
        with suppress(TunesmithError, OSError):  # the one before it may be whole
            manifest = read_manifest(path.parent)
            check_weights(path.parent)
            if manifest.run == fingerprint:
                return Checkpointed(path.parent, manifest.step)
    return None
