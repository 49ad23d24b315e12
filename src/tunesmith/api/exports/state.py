"""Where an export stands, and what is kept of one that has ended."""

import json
import time
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

from tunesmith.export.kinds import Kind, Width
from tunesmith.system.atomic_write import write_atomically

Phase = Literal["running", "failed", "done"]


@dataclass(frozen=True, slots=True)
class State:
    """An export of one model.

    `needed` bytes will be `written`; None where that is not known yet.
    """

    model: str
    kind: Kind
    width: Width
    phase: Phase
    written: int = 0
    needed: int | None = None
    message: str | None = None  # why it failed
    ended_at: float = 0.0  # while it runs in sight of other servers: when its own was heard last
    token: str = ""  # of this one writing

    @property
    def share(self) -> float | None:
        """The part that is written."""
        return min(1.0, self.written / self.needed) if self.needed else None


def name_of(model: str, kind: Kind) -> str:
    """The name of an export's folder, which says nothing about the model."""
    return sha256(f"{kind} {model}".encode()).hexdigest()[:32]


def write_state(folder: Path, state: State) -> None:
    """Keeps it beside the export's own folder."""
    path = folder / f"{name_of(state.model, state.kind)}.json"
    write_atomically(path, json.dumps({**asdict(state), "ended_at": time.time()}).encode(), private=True, durable=False)


def read_state(path: Path) -> State | None:
    """What was kept; None where there is nothing that can be read."""
    try:
        return state_from(path.read_bytes())
    except OSError:
        return None


def state_from(content: bytes) -> State | None:
    """The state in a kept text; None where it is none."""
    try:
        return State(**json.loads(content))
    except (ValueError, TypeError):
        return None


def size_of(folder: Path) -> int:
    """The bytes of the files in a folder, which may be growing or going."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except OSError:
            continue
    return total
