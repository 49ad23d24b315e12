"""What the store returns of evals: frozen rows, and what a runner saves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, cast

from tunesmith.jsonvalue import JsonObject, JsonValue

RunStatus: TypeAlias = Literal["queued", "in_progress", "completed", "canceled", "failed"]
ItemState: TypeAlias = Literal["waiting", "pass", "fail", "error"]
EvalOrder: TypeAlias = Literal["created_at", "updated_at"]
UNFINISHED: tuple[RunStatus, ...] = ("queued", "in_progress")


@dataclass(frozen=True, slots=True)
class NewEval:
    """What `evals.create` needs; the caller has checked the criteria."""

    project: str
    name: str
    data_source_config: JsonObject
    testing_criteria: tuple[JsonObject, ...]
    metadata: dict[str, str]


@dataclass(frozen=True, slots=True)
class EvalRow:
    """An eval: where its data comes from, and what is tested."""

    id: str
    project: str
    name: str
    data_source_config: JsonObject
    testing_criteria: tuple[JsonObject, ...]
    metadata: dict[str, str]
    created_at: int
    updated_at: int


@dataclass(frozen=True, slots=True)
class RunItem:
    """A row of a run's data: the item, and the sample that came with it."""

    item: JsonObject
    given: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class NewRun:
    """What `runs.create` needs besides the rows."""

    eval_id: str
    project: str
    key_id: str | None
    name: str
    model: str  # that answers; "" where the rows have their samples
    data_source: JsonObject
    metadata: dict[str, str]


@dataclass(frozen=True, slots=True)
class Invocations:
    """How often a model was asked, and the tokens of it."""

    count: int = 0
    prompt: int = 0
    completion: int = 0
    cached: int = 0

    def __add__(self, other: "Invocations") -> "Invocations":
        return Invocations(
            self.count + other.count,
            self.prompt + other.prompt,
            self.completion + other.completion,
            self.cached + other.cached,
        )


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the rows of a run: (passed, failed) by criterion, and usage by model."""

    criteria: tuple[tuple[int, int], ...] = ()
    usage: Mapping[str, Invocations] = field(default_factory=dict)

    def to_json(self) -> JsonObject:
        """As it is stored."""
        usage: JsonObject = {
            name: [one.count, one.prompt, one.completion, one.cached] for name, one in self.usage.items()
        }
        return {"criteria": [list(one) for one in self.criteria], "usage": usage}

    @classmethod
    def from_json(cls, value: JsonValue) -> "Totals":
        """What was stored; no sums for None."""
        if not isinstance(value, dict):
            return cls()
        criteria = cast(Sequence[tuple[int, int]], value["criteria"])
        usage = cast(Mapping[str, Sequence[int]], value["usage"])
        return cls(
            tuple((passed, failed) for passed, failed in criteria),
            {name: Invocations(*numbers) for name, numbers in usage.items()},
        )


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run of an eval: first what the wire shows, then what only its runner needs."""

    id: str
    eval_id: str
    project: str
    name: str
    model: str
    status: RunStatus
    data_source: JsonObject
    metadata: dict[str, str]
    created_at: int
    error: JsonObject | None  # {code, message}
    total: int
    passed: int
    failed: int
    errored: int
    totals: Totals

    key_id: str | None
    worker: str | None
    attempt: int
    stalled: int

    @property
    def finished(self) -> bool:
        """Whether no state follows."""
        return self.status not in UNFINISHED


@dataclass(frozen=True, slots=True)
class ItemRow:
    """A row of a run: what it is, what was answered, how that was graded."""

    seq: int
    id: str
    run_id: str
    number: int
    item: JsonObject
    given: JsonObject | None
    state: ItemState
    created_at: int
    sample: JsonObject | None
    results: tuple[JsonObject, ...]


@dataclass(frozen=True, slots=True)
class Done:
    """What a run made of a row, without its texts."""

    id: str
    state: ItemState
    results: tuple[JsonObject, ...]

    def passed(self, criterion: str) -> bool:
        """Whether the row passed this criterion; one without a score did not."""
        return any(one.get("name") == criterion and one.get("passed") is True for one in self.results)


@dataclass(frozen=True, slots=True)
class PairedItem:
    """One row in two runs; `number` is its place in the data source."""

    number: int
    before: Done
    after: Done


@dataclass(frozen=True, slots=True)
class RunLease:
    """The right to write to a run, until somebody else has it."""

    run_id: str
    worker: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Saved:
    """What became of an item: an answer (`waiting`), a further result, or its end.

    `verdicts`: whether each criterion was passed, at the end; None for one without a score. `spent`: by model, what is
    new since the item was saved before.
    """

    item_id: str
    sample: JsonObject | None
    results: tuple[JsonObject, ...]
    state: ItemState = "waiting"
    verdicts: tuple[bool | None, ...] = ()
    spent: Mapping[str, Invocations] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A run that was done elsewhere, with its items; the store fills in the eval's id."""

    new: NewRun
    items: tuple[tuple[JsonObject, Saved], ...]


@dataclass(frozen=True, slots=True)
class FinishedEval:
    """An eval that comes with its runs."""

    new: NewEval
    runs: tuple[FinishedRun, ...]
