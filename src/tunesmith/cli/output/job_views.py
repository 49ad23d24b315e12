"""Views of a job that is being watched: a live bar, plain lines or JSON lines."""

import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn

from tunesmith.cli.output.terminal import duration, err, note, print_json, warn
from tunesmith.client import Event, Job

PLAIN_SHARE = 0.1  # of the steps, between two lines where there is no terminal


class View(Protocol):
    """Shows new events and the job's state until the block ends."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def show(self, event: Event) -> None:
        """Shows one event."""
        ...

    def update(self, job: Job) -> None:
        """Shows the job's state."""
        ...

    def away(self, text: str) -> None:
        """Says that the server does not answer."""
        ...


@dataclass(slots=True)
class Clock:
    """Estimates the time left from the pace since the first step seen.

    The job's own estimate has whole seconds only.
    """

    first: tuple[float, int] | None = None

    def left(self, step: int, total: int) -> float | None:
        """Seconds until step `total`; None until a second step has been seen."""
        now = time.monotonic()
        if self.first is None:
            self.first = (now, step)
        since, first_step = self.first
        return (now - since) / (step - first_step) * (total - step) if step > first_step else None


@dataclass(slots=True)
class LiveBar:
    """A bar with loss and time left, on stderr so that stdout stays clean."""

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
        """Moves the bar for metrics; prints the message of any other event above it."""
        if event.type != "metrics":
            colour = {"warn": "yellow", "error": "red"}.get(event.level, "dim")
            self.progress.console.print(f"[{colour}]{escape(event.message)}[/{colour}]", soft_wrap=True)
            return
        step, total = _count(event, "step"), _count(event, "total_steps")
        self.progress.update(self.task, completed=step, total=total or None, numbers=_numbers(event, self.clock))

    def update(self, job: Job) -> None:
        """Names the job's state in front of the bar."""
        doing = {"validating_files": "checking", "running": "training"}.get(job.status, job.status)
        self.progress.update(self.task, description=doing)

    def away(self, text: str) -> None:
        """Prints the text above the bar, which says so too until the next `update`."""
        self.progress.console.print(f"[yellow]{escape(text)}[/yellow]", soft_wrap=True)
        self.progress.update(self.task, description="server away", numbers="")


@dataclass(slots=True)
class PlainLines:
    """A line per event on stderr, but only one for every tenth of the steps."""

    clock: Clock = field(default_factory=Clock)
    shown: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def show(self, event: Event) -> None:
        """Prints the event, unless its step is too close to the last one printed."""
        if event.type != "metrics":
            note(event.message)
            return
        step, total = _count(event, "step"), _count(event, "total_steps")
        numbers = _numbers(event, self.clock)
        if step in (1, total) or step - self.shown >= total * PLAIN_SHARE:
            self.shown = step
            note(f"step {step}/{total}  {numbers}")

    def update(self, job: Job) -> None:
        """Does nothing: the events say enough."""

    def away(self, text: str) -> None:
        """Prints the text."""
        warn(text)


class JsonLines:
    """A line of JSON per event on stdout, as the server sent it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def show(self, event: Event) -> None:
        """Prints the event."""
        print_json(event.wire, indent=None)

    def update(self, job: Job) -> None:
        """Does nothing: only events are printed."""

    def away(self, text: str) -> None:
        """Prints the text on stderr: stdout is for events."""
        warn(text)


def _count(event: Event, name: str) -> int:
    value = (event.data or {}).get(name)
    return value if isinstance(value, int) else 0


def _numbers(event: Event, clock: Clock) -> str:
    """`loss 1.234  valid 1.300  12s left`, with the parts that are known."""
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
