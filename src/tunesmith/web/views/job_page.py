"""A job's own page."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import cast

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.store import CheckpointRow, EventRow, JobRow, Page, ScopedStore
from tunesmith.web.formats import number, percent
from tunesmith.web.live.feed import Feed, Feeds, Marks
from tunesmith.web.live.thinning import Point
from tunesmith.web.views.job_line import decision_of, evaluation_of, state_of, title_of
from tunesmith.web.views.job_numbers import Numbers, job_numbers

CHECKPOINTS = 20
HYPERPARAMETERS = ("n_epochs", "batch_size", "learning_rate_multiplier", "beta")


@dataclass(frozen=True, slots=True)
class File:
    """A file of the job; `name` is None once it is deleted."""

    id: str
    use: str  # training, validation, result
    name: str | None


@dataclass(frozen=True, slots=True)
class KeptCheckpoint:
    """A checkpoint, and whether its model can still be asked."""

    step: int
    model: str
    created_at: int
    loss: float | None
    valid_loss: float | None
    usable: bool


@dataclass(frozen=True, slots=True)
class Summary:
    """A curve in numbers."""

    name: str
    first: Point
    last: Point
    low: Point
    high: Point


@dataclass(frozen=True, slots=True)
class JobPage:
    """All that the page shows."""

    id: str
    title: str
    state: str
    row: JobRow
    numbers: Numbers
    marks: Marks
    curves: Sequence[Summary]
    table: Sequence[JsonObject]
    events: Page[EventRow]
    checkpoints: Sequence[KeptCheckpoint]
    files: Sequence[File]
    settings: Sequence[tuple[str, str]]
    options: Sequence[tuple[str, str]]
    evaluation: JsonObject | None
    decision: str | None
    model_usable: bool

    @property
    def active(self) -> bool:
        """Whether it can be cancelled."""
        return not self.row.status.finished

    @property
    def can_pause(self) -> bool:
        """Whether pausing would change something."""
        return self.active and not self.row.paused

    @property
    def can_resume(self) -> bool:
        """Whether it waits to be resumed."""
        return self.active and self.row.paused

    @property
    def summaries(self) -> Mapping[str, Summary]:
        """The curves by name."""
        return {one.name: one for one in self.curves}


def job_page(store: ScopedStore, feeds: Feeds, row: JobRow) -> JobPage:
    """Reads it; for a thread."""
    feed = feeds.fresh(row.id)
    return JobPage(
        id=row.id,
        title=title_of(row),
        state=state_of(row),
        row=row,
        numbers=job_numbers(row, feed.newest(), feed.rate()),
        marks=feed.marks(),
        curves=_summaries(feed),
        table=feed.table(),
        events=feed.events(store),
        checkpoints=checkpoints_of(store, row),
        files=_files(store, row),
        settings=_settings(row),
        options=sorted((name, spelled(value)) for name, value in row.options.items() if name != "evaluation"),
        evaluation=(found := evaluation_of(row)),
        decision=decision_of(found),
        model_usable=row.fine_tuned_model is not None and store.models.get(row.fine_tuned_model) is not None,
    )


def checkpoints_of(store: ScopedStore, row: JobRow) -> list[KeptCheckpoint]:
    """The kept checkpoints, newest first."""
    kept = store.jobs.checkpoints(row.id, limit=CHECKPOINTS).data
    usable = {one.name for one in store.models.among({one.fine_tuned_model_checkpoint for one in kept})}
    return [_kept(one, usable) for one in kept]


def spelled(value: JsonValue) -> str:
    """A setting's value in a cell."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(map(spelled, value))
    return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _kept(row: CheckpointRow, usable: AbstractSet[str]) -> KeptCheckpoint:
    numbers = [row.metrics.get(name) for name in ("train_loss", "full_valid_loss", "valid_loss")]
    loss, full, part = (float(value) if isinstance(value, int | float) else None for value in numbers)
    model = row.fine_tuned_model_checkpoint
    shown = part if full is None else full
    return KeptCheckpoint(row.step_number, model, row.created_at, loss, shown, model in usable)


def _summaries(feed: Feed) -> list[Summary]:
    found = feed.points().items()
    return [
        Summary(name, points[0], points[-1], min(points, key=_value), max(points, key=_value)) for name, points in found
    ]


def _value(point: Point) -> float:
    return point[1]


def _files(store: ScopedStore, row: JobRow) -> list[File]:
    uses = [("training", row.training_file), ("validation", row.validation_file)]
    uses += [("result", one) for one in row.result_files]
    found = []
    for use, file_id in uses:
        if file_id is not None:
            file = store.files.get(file_id)
            found.append(File(file_id, use, None if file is None else file.filename))
    return found


def _settings(row: JobRow) -> list[tuple[str, str]]:
    """Method, hyperparameters (those of the validated job) and seed."""
    kind = str(row.method["type"])
    asked = cast(JsonObject, cast(JsonObject, row.method.get(kind) or {}).get("hyperparameters") or {})
    known = {**asked, **row.hyperparameters}
    numbers = [(name, spelled(known[name])) for name in HYPERPARAMETERS if name in known]
    return [("method", kind), *numbers, ("seed", str(row.seed))]


def curve_label(summary: Summary) -> Mapping[str, str | int]:
    """The values of a curve's sentence."""
    is_share = "accuracy" in summary.name
    best = summary.high if is_share else summary.low
    first, last, spelled_best = (
        percent(value, 1) if is_share else number(value) for _, value in (summary.first, summary.last, best)
    )
    return {
        "first": first,
        "last": last,
        "first_step": summary.first[0],
        "last_step": summary.last[0],
        "best": spelled_best,
        "best_step": best[0],
    }
