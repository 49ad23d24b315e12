"""What the child is asked to check, and within which limits."""

from dataclasses import dataclass
from pathlib import Path

from tunesmith.jsonvalue import JsonObject

FAULT, GONE, NO_MEMORY = "fault", "gone", "no_memory"  # keys of an answer without a verdict


@dataclass(frozen=True, slots=True)
class CheckTask:
    """One file to check.

    `kept`: the directory of kept passes. `seconds` of wall-clock time and bytes of `memory` are all that it may take.
    """

    path: Path
    sha256: str
    kept: Path
    analysers: tuple[str, ...]
    seconds: float
    memory: int

    def to_json(self) -> JsonObject:
        """The task as it goes through the pipe."""
        return {
            "path": str(self.path.absolute()),
            "sha256": self.sha256,
            "kept": str(self.kept.absolute()),
            "analysers": list(self.analysers),
            "seconds": self.seconds,
            "memory": self.memory,
        }


def task_from_json(value: JsonObject) -> CheckTask:
    """The task that `to_json` wrote."""
    from pydantic import TypeAdapter

    return TypeAdapter(CheckTask).validate_python(value)
