"""Follows a job: a live bar with loss and time left in a terminal, plain lines in a pipe, JSON lines for scripts."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn

from tunesmith.cli.configure import again
from tunesmith.cli.exits import CommandError, Exit
from tunesmith.cli.output.terminal import duration, err, facts, note, out, print_json, print_plain
from tunesmith.client import Client, Event, Job, ServerUnreachable

POLL_SECONDS = 0.7
PATIENCE_SECONDS = 60.0  # how long a server may be away (a restart) before we give up; the job does not mind
RECENT = 100  # events asked for at a time; a fast job makes some 10 between two polls
PLAIN_SHARE = 0.1  # of the steps, between two lines where there is no terminal


class View(Protocol):
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def show(self, event: Event) -> None: ...
    def update(self, job: Job) -> None: ...


def watch(client: Client, job: Job, *, as_json: bool) -> Job:
    """Shows the job until it has finished. A KeyboardInterrupt passes through: the job goes on."""
    view: View = JsonLines() if as_json else LiveBar() if err().is_terminal else PlainLines()
    with view:
        for current, events in follow(client, job.id):
            job = current
            for event in events:
                view.show(event)
            view.update(job)
    return job


def conclude(job: Job, *, as_json: bool) -> None:
    """What came of the job and what to do next; raises CommandError (exit 4) unless it succeeded."""
    if as_json:
        print_json(job.wire, indent=None)
    if job.status == "cancelled":
        raise CommandError(f"Job {job.id} was cancelled; it left no model.", Exit.JOB_FAILED)
    if job.status == "failed":
        reason = job.error.message if job.error and job.error.message else "no reason was given"
        raise CommandError(f"Job {job.id} failed: {reason}", Exit.JOB_FAILED)
    if not as_json:
        took = duration(job.finished_at - job.created_at) if job.finished_at else "?"
        out().print(f"\n[green]✓[/green] [bold]{escape(job.fine_tuned_model or '?')}[/bold]", soft_wrap=True)
        out().print(facts({"trained": f"{job.trained_tokens or 0:,} tokens in {took}"}))


def next_steps(job: Job) -> None:
    print_plain(f"  talk to it:  {again(f'chat {job.fine_tuned_model}')}")
    print_plain(f"  its metrics: {again(f'jobs result {job.id}')}")


def follow(client: Client, job_id: str) -> Iterator[tuple[Job, list[Event]]]:
    """The job and its new events, oldest first, again and again until it has finished."""
    seen: set[str] = set()
    away_since: float | None = None
    while True:
        try:
            job = client.job(job_id)  # before the events, so that those of a finished job are all there
            events = _new_events(client, job_id, seen)
        except ServerUnreachable:
            away_since = away_since or time.monotonic()
            if time.monotonic() - away_since > PATIENCE_SECONDS:
                raise
            time.sleep(POLL_SECONDS)
            continue
        away_since = None
        yield job, events
        if job.finished:
            return
        time.sleep(POLL_SECONDS)


def _new_events(client: Client, job_id: str, seen: set[str]) -> list[Event]:
    limit = RECENT
    while True:
        newest_first = client.events(job_id, limit)
        fresh = [event for event in newest_first if event.id not in seen]
        if len(fresh) < limit:  # we have met what we knew, or there is no more
            break
        limit *= 4
    seen.update(event.id for event in fresh)
    return fresh[::-1]


@dataclass(slots=True)
class Clock:
    """Time left, from the pace since the first step we saw; the job's own estimate is in whole seconds only."""

    first: tuple[float, int] | None = None

    def left(self, step: int, total: int) -> float | None:
        now = time.monotonic()
        if self.first is None:
            self.first = (now, step)
        since, first_step = self.first
        return (now - since) / (step - first_step) * (total - step) if step > first_step else None


@dataclass(slots=True)
class LiveBar:
    """On stderr, so that stdout stays clean."""

    clock: Clock = field(default_factory=Clock)
    progress: Progress = field(init=False)
    task: TaskID = field(init=False)

    def __post_init__(self) -> None:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
        )
        self.progress = Progress(*columns, console=err(), refresh_per_second=8)
        self.task = self.progress.add_task("waiting", total=None, numbers="")

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def show(self, event: Event) -> None:
        if event.type != "metrics":
            colour = {"warn": "yellow", "error": "red"}.get(event.level, "dim")
            self.progress.console.print(f"[{colour}]{escape(event.message)}[/{colour}]", soft_wrap=True)
            return
        step, total = _count(event, "step"), _count(event, "total_steps")
        self.progress.update(self.task, completed=step, total=total or None, numbers=_numbers(event, self.clock))

    def update(self, job: Job) -> None:
        doing = {"validating_files": "checking", "running": "training"}.get(job.status, job.status)
        self.progress.update(self.task, description=doing)


@dataclass(slots=True)
class PlainLines:
    """A line an event, but only every tenth part of the steps."""

    clock: Clock = field(default_factory=Clock)
    shown: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def show(self, event: Event) -> None:
        if event.type != "metrics":
            note(event.message)
            return
        step, total = _count(event, "step"), _count(event, "total_steps")
        numbers = _numbers(event, self.clock)
        if step in (1, total) or step - self.shown >= total * PLAIN_SHARE:
            self.shown = step
            note(f"step {step}/{total}  {numbers}")

    def update(self, job: Job) -> None:
        pass


class JsonLines:
    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def show(self, event: Event) -> None:
        print_json(event.wire, indent=None)

    def update(self, job: Job) -> None:
        pass


def _count(event: Event, name: str) -> int:
    value = (event.data or {}).get(name)
    return value if isinstance(value, int) else 0


def _numbers(event: Event, clock: Clock) -> str:
    data = event.data or {}
    parts: list[str] = []
    for name, key in (("loss", "train_loss"), ("valid", "full_valid_loss"), ("valid", "valid_loss")):
        value = data.get(key)
        if isinstance(value, int | float) and not any(part.startswith(name) for part in parts):
            parts.append(f"{name} {value:.3f}")
    left = clock.left(_count(event, "step"), _count(event, "total_steps"))
    if left:
        parts.append(f"{duration(left)} left")
    return "  ".join(parts)
