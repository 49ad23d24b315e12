"""What a page shows of a job while it trains, read from the store piece by piece.

A feed is shared by all who look at the job: the store is asked once a second at most, only when something was written
to it, and only for events that are new.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from tunesmith.jsonvalue import JsonObject
from tunesmith.store import EventRow, JobRow, Logged, Page, ScopedStore, Store
from tunesmith.web.live.thinning import Curve, Point
from tunesmith.web.views.job_line import state_of

CURVES = (
    "train_loss",
    "valid_loss",
    "full_valid_loss",
    "train_mean_token_accuracy",
    "valid_mean_token_accuracy",
    "full_valid_mean_token_accuracy",
)
SECONDS = 0.9  # between two looks at the store
CHUNK = 4_000  # events of one look
MOST_CHUNKS = 3  # of a page, which would else be late: that of a longer job gets the rest from its stream
PACE_STEPS = 400  # the last ones, from which the rate is told
PACE_SECONDS = 60
MOST_FEEDS = 64
EVENTS = 50  # of those that are no steps, on a page


@dataclass(frozen=True, slots=True)
class Place:
    """How far a viewer has seen: the `id` of a server-sent event."""

    seq: int = 0
    step: int = 0
    turn: int = -1  # of the thinning: at another one, points that were seen have gone

    @classmethod
    def read(cls, text: str) -> "Place":
        """The place that an id names; the beginning for anything else."""
        parts = text.split("-")
        whole = len(parts) == 3 and all(part.isascii() and part.isdigit() and len(part) < 19 for part in parts)
        return cls(*map(int, parts)) if whole else cls()

    def __str__(self) -> str:
        return f"{self.seq}-{self.step}-{self.turn}"


@dataclass(frozen=True, slots=True)
class Marks:
    """What tells that a part of the page is old.

    Each changes with what that part shows.
    """

    head: str
    events: str
    checkpoints: str


@dataclass(slots=True)
class Samples:
    """Steps at even distances, at most `most` of them: the curves as a table."""

    most: int = 40
    stride: int = 1
    kept: list[JsonObject] = field(default_factory=list)
    seen: int = 0

    def add(self, metrics: JsonObject) -> None:
        """Adds a step, if it is one of those to keep."""
        if self.seen % self.stride == 0:
            self.kept.append(metrics)
        self.seen += 1
        if len(self.kept) > self.most:
            self.kept, self.stride = self.kept[::2], self.stride * 2


def newest_metrics(known: JsonObject, step: JsonObject) -> JsonObject:
    """What is known after a step: validation is not measured at each."""
    found = known | step
    if "valid_loss" in step and "full_valid_loss" not in step:  # older than that of a part of the rows
        found.pop("full_valid_loss", None)
        found.pop("full_valid_mean_token_accuracy", None)
    return found


@dataclass(slots=True)
class Feed:
    """One job's curves, pace and marks; safe to share between threads."""

    store: Store
    job_id: str
    job: JobRow | None = None
    checkpoint: str = ""
    metrics: JsonObject = field(default_factory=dict)  # the newest of each
    samples: Samples = field(default_factory=Samples)
    curves: dict[str, Curve] = field(default_factory=lambda: {name: Curve() for name in CURVES})
    seq: int = 0
    words: deque[int] = field(default_factory=lambda: deque(maxlen=EVENTS + 1))  # places of events that are no steps
    step: int = 0
    behind: bool = True  # more events wait to be read
    looks: int = 0  # at the store
    _steps: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=PACE_STEPS))  # step, when
    _begun: tuple[int, int] | None = None  # the first step, and when
    _version: int | None = None
    _read_at: float = -SECONDS
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def refresh(self) -> None:
        """Reads what is new, unless that was done a moment ago."""
        with self._lock:
            now = time.monotonic()
            if not self.behind and (now - self._read_at < SECONDS or self.unchanged()):
                return
            self._version, self._read_at = self.store.progress.version(), now
            self.looks += 1
            self.job = self.store.jobs.get(self.job_id)
            newest = self.store.jobs.checkpoints(self.job_id, limit=1).data
            self.checkpoint = newest[0].id if newest else ""
            new = self.store.progress.after(self.job_id, self.seq, CHUNK)
            self.behind = len(new) == CHUNK
            for one in new:
                self._take(one)

    def newest(self) -> JsonObject:
        """What the newest step measured, also while steps before it are still to be read."""
        return (self.store.progress.newest_step(self.job_id) or {}) if self.behind else self.metrics

    def events(self, store: ScopedStore) -> Page[EventRow]:
        """The newest events that are no steps.

        Where they stand among the steps is known here: to look for them would cost as much as the job is long.
        """
        if self.behind:
            return store.progress.events(self.job_id, limit=EVENTS)
        with self._lock:
            places = [*self.words]
        found = store.progress.events_at(self.job_id, places[-EVENTS:])
        return Page(tuple(found), len(places) > EVENTS)

    def unchanged(self) -> bool:
        """Whether nothing was written to the store since; False where that is unknown."""
        return not self.behind and self._version is not None and self._version == self.store.progress.version()

    @property
    def ended(self) -> bool:
        """Whether the job is over, and all of it was read."""
        return not self.behind and (self.job is None or self.job.status.finished)

    def place(self) -> Place:
        """Where a viewer is who has seen all that was read."""
        return Place(self.seq, self.step, sum(curve.width.bit_length() for curve in self.curves.values()))

    def marks(self) -> Marks:
        """The marks of the page's parts as they are now."""
        job = self.job
        head = "" if job is None else f"{state_of(job)}-{(job.estimated_finish or 0) // 60}"
        return Marks(head, str(self.words[-1] if self.words else 0), self.checkpoint)

    def patch(self, seen: Place) -> dict[str, tuple[int, list[Point]]]:
        """For each curve that changed: the step from which on, and its points there."""
        with self._lock:
            here, found = self.place(), dict[str, tuple[int, list[Point]]]()
            for name, curve in self.curves.items():
                if curve.last is None or (seen.turn == here.turn and curve.last[0] <= seen.step):
                    continue
                since = curve.start_of(seen.step) if seen.turn == here.turn and seen.seq <= self.seq else 0
                found[name] = (since, curve.points(since))
            return found

    def points(self) -> Mapping[str, list[Point]]:
        """The curves as they are, those without a point left out."""
        with self._lock:
            return {name: curve.points() for name, curve in self.curves.items() if curve.last is not None}

    def table(self) -> list[JsonObject]:
        """Steps at even distances with what was known then, the last one among them."""
        with self._lock:
            kept = [*self.samples.kept]
            return kept if not kept or kept[-1]["step"] == self.step else [*kept, self.metrics]

    def rate(self) -> float | None:
        """Steps a second over the last minute; None while it cannot be told."""
        with self._lock:
            if self._begun is None:
                return None
            last_step, last_at = self._steps[-1]
            recent = (one for one in self._steps if last_at - one[1] <= PACE_SECONDS)
            for step, at in (next(recent), self._steps[0], self._begun):  # steps may take minutes, or no second
                if last_at > at:
                    return (last_step - step) / (last_at - at)
        return None

    def _take(self, one: Logged) -> None:
        self.seq = one.seq
        if one.metrics is None:
            self.words.append(one.seq)
            return
        step = one.metrics.get("step")
        if not isinstance(step, int):
            return
        self.step, self.metrics = step, newest_metrics(self.metrics, one.metrics)
        self.samples.add(self.metrics)
        self._steps.append((step, one.created_at))
        self._begun = self._begun or self._steps[0]
        for name, value in one.metrics.items():
            if (curve := self.curves.get(name)) is not None and isinstance(value, int | float):
                curve.add(step, value)


class Feeds:
    """The feeds of the jobs that were looked at last."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._feeds: OrderedDict[str, Feed] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, job_id: str) -> Feed:
        """The job's feed, which may have to be refreshed."""
        with self._lock:
            feed = self._feeds.get(job_id) or Feed(self._store, job_id)
            self._feeds[job_id] = feed
            self._feeds.move_to_end(job_id)
            while len(self._feeds) > MOST_FEEDS:
                self._feeds.popitem(last=False)
        return feed

    def fresh(self, job_id: str) -> Feed:
        """The job's feed, refreshed: a part of a very long job may still be missing."""
        feed = self.of(job_id)
        for _ in range(MOST_CHUNKS):
            feed.refresh()
            if not feed.behind:
                break
        return feed
