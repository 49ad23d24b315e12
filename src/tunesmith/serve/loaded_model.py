"""A model that can answer, as `pool` opens it and chats use it."""

from dataclasses import dataclass
from pathlib import Path

from tunesmith.models.adapters import NO_ADAPTER
from tunesmith.render.renderer import Renderer
from tunesmith.serve.engine.grammar import Grammars
from tunesmith.serve.engine.protocol import Engine


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that can answer: a base in memory, its renderer, and an adapter."""

    engine: Engine
    renderer: Renderer
    adapter: Path | None  # None also for fully tuned weights, which are the engine's own
    fingerprint: str  # 10 hex digits of what decides the answers: base, number format, adapter, our version
    grammars: Grammars
    tuned: str = NO_ADAPTER  # SHA-256 of the tuned weights that answer, as their manifest has it
    project: str = ""  # whose requests these are, for the prefix cache and the order of the queue
    background: bool = False  # nobody waits for its answers: all others go first
