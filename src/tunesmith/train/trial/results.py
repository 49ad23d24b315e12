"""What a trial found, as a table and as JSON."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tunesmith.jsonvalue import JsonObject, JsonValue


@dataclass(frozen=True, slots=True)
class Found:
    """One line: what was tried on which shape, and what came out."""

    shape: str
    what: str
    outcome: str  # ok; or why not, in a few words
    measures: dict[str, float | bool | str] = field(default_factory=dict)
    seconds: float = 0.0

    def to_json(self) -> JsonObject:
        """The same as an object."""
        return {
            "shape": self.shape,
            "what": self.what,
            "outcome": self.outcome,
            "measures": {**self.measures},
            "seconds": round(self.seconds, 1),
        }


def table(found: Sequence[Found]) -> str:
    """A Markdown table, one line for each."""
    lines = ["| shape | what | outcome | measures | s |", "| --- | --- | --- | --- | ---: |"]
    lines += [f"| {one.shape} | {one.what} | {one.outcome} | {_measures(one)} | {one.seconds:.1f} |" for one in found]
    return "\n".join(lines)


def _measures(found: Found) -> str:
    return ", ".join(f"{name} {_short(value)}" for name, value in found.measures.items())


def _short(value: JsonValue) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, int | float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)
