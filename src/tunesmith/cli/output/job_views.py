"""Views of a job that is being watched: a live bar, plain lines or JSON lines."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, Task, TaskID, TextColumn
from rich.progress_bar import ProgressBar
from rich.text import Text

from tunesmith.cli.output.terminal import duration, err, note, plural, print_json, warn
from tunesmith.cli.output.waiting import LINE_SECONDS, nothing_known
from tunesmith.client import Event, Job

PLAIN_SHARE = 0.1  # of the steps, between two lines where there is no terminal
STEP_LINE_SECONDS = 20.0  # the longest silence between two of them
REPLAYED_SECONDS = 2.0  # more between two steps there than here: they were made before they were asked for
CLOCK_SECONDS = 1.0  # the least to tell a pace from: several steps may come at once


class View(Protocol):
    """Shows new events and the job's state until the block ends."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def show(self, event: Event) -> None:
        """Shows one event."""
        ...

    def update(self, job: Job, ahead: int | None = None) -> None:
        """Shows the job's state.

        `ahead` are the jobs that it waits for, where that is known.
        """
        ...

    def away(self, text: str) -> None:
        """Says that the server does not answer."""
        ...


@dataclass(slots=True)
class Clock:
    """Estimates the time left from the pace since the first step seen.

    Steps of a job that is joined in the middle come all at once: for those the server's times count, in whole seconds.
    """

    first: tuple[float, int, int] | None = None  # here, there, and the step

    def left(self, step: int, total: int, at: int) -> float | None:
        """Seconds until step `total`; None until a second step has been seen.

        `at` is when the server saw the step, in Unix seconds.
        """
        now = time.monotonic()
        if self.first is None:
            self.first = (now, at, step)
        since, there, first_step = self.first
        took = now - since if at - there <= now - since + REPLAYED_SECONDS else float(at - there)
        if step <= first_step or took < CLOCK_SECONDS:
            return None
        return took / (step - first_step) * (total - step)


@dataclass(slots=True)
class Doing:
    """What is being done for a job, and for how long.

    `detail` tells what the server does right now, where that is known.
    """

    detail: Callable[[], str | None] = nothing_known
    text: str = ""
    since: float = field(default_factory=lambda: time.monotonic())

    def now(self, job: Job, ahead: int | None, *, stepping: bool, done: bool = False) -> str:
        """The state in words; `done`: the last step has been seen.

        While no step tells of progress, the time it has lasted is added.
        """
        stepping = stepping and not done
        text = self._text(job, ahead, stepping=stepping, done=done)
        if text != self.text:
            self.text, self.since = text, time.monotonic()
        waited = time.monotonic() - self.since
        return text if stepping or job.finished or waited < 1 else f"{text} … {duration(waited)}"

    def _text(self, job: Job, ahead: int | None, *, stepping: bool, done: bool) -> str:
        if job.state == "validating_files":
            return "checking the files"
        if job.state == "queued" and ahead:
            return f"queued behind {plural(ahead, 'job')}"
        if job.state != "running":
            return job.state
        if done:
            return "writing and evaluating the model"
        return "training" if stepping else self.detail() or "starting the trainer"


class _Bar(BarColumn):
    """A bar that is drawn once the number of steps is known."""

    def render(self, task: Task) -> ProgressBar:
        self.bar_width = 20 if task.total else 0
        return super().render(task)


class _Steps(MofNCompleteColumn):
    """`3/12`, once the number of steps is known."""

    def render(self, task: Task) -> Text:
        return super().render(task) if task.total else Text()


@dataclass(slots=True)
class LiveBar:
    """A bar with loss and time left, on stderr so that stdout stays clean."""

    detail: Callable[[], str | None] = nothing_known
    clock: Clock = field(default_factory=Clock)
    doing: Doing = field(init=False)
    progress: Progress = field(init=False)
    task: TaskID = field(init=False)

    def __post_init__(self) -> None:
        self.doing = Doing(self.detail)
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            _Bar(),
            _Steps(),
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

    def update(self, job: Job, ahead: int | None = None) -> None:
        """Names in front of the bar what is being done."""
        task = self.progress.tasks[0]
        stepping, done = task.total is not None, task.completed == task.total
        self.progress.update(self.task, description=self.doing.now(job, ahead, stepping=stepping, done=done))

    def away(self, text: str) -> None:
        """Prints the text above the bar, which says so too until the next `update`."""
        self.progress.console.print(f"[yellow]{escape(text)}[/yellow]", soft_wrap=True)
        self.progress.update(self.task, description="server away", numbers="")


@dataclass(slots=True)
class PlainLines:
    """A line per event on stderr, but only one for every tenth of the steps.

    Where nothing happens for long, a line says what is being done.
    """

    detail: Callable[[], str | None] = nothing_known
    clock: Clock = field(default_factory=Clock)
    doing: Doing = field(init=False)
    shown: int = 0
    seen: str = ""  # the last step, which may not have been shown
    done: bool = False  # whether it was the last of all
    spoke: float = field(default_factory=lambda: time.monotonic())

    def __post_init__(self) -> None:
        self.doing = Doing(self.detail)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def show(self, event: Event) -> None:
        """Prints the event, unless its step is too close to the last one printed."""
        if event.type != "metrics":
            self._say(event.message)
            return
        step, total = _count(event, "step"), _count(event, "total_steps")
        self.seen, self.done = f"step {step}/{total}  {_numbers(event, self.clock)}", step == total
        if step in (1, total) or step - self.shown >= total * PLAIN_SHARE:
            self.shown = step
            self._say(self.seen)

    def update(self, job: Job, ahead: int | None = None) -> None:
        """Prints what is being done if nothing was printed for long."""
        doing = self.doing.now(job, ahead, stepping=bool(self.seen), done=self.done)
        silence = STEP_LINE_SECONDS if self.seen else LINE_SECONDS
        if not job.finished and time.monotonic() - self.spoke >= silence:
            self._say(doing if self.done else self.seen or doing)

    def _say(self, line: str) -> None:
        self.spoke = time.monotonic()
        note(line)

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

    def update(self, job: Job, ahead: int | None = None) -> None:
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
    left = clock.left(_count(event, "step"), _count(event, "total_steps"), event.created_at)
    if left:
        parts.append(f"{duration(left)} left")
    return "  ".join(parts)
