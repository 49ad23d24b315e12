"""What `tunesmith replay` shows: its progress, and what came of the rows."""

import time
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from tunesmith.cli.output.terminal import duration, err, note, out, plural, print_json
from tunesmith.estimate.prices import dollars
from tunesmith.replay.run import Progress, Written

LINE_SECONDS = 10.0  # between lines where no bar can be drawn
LISTED = 10
MOST_TERMS = (
    "OpenAI's Services Agreement (2026-01-01, 3.3(e)) forbids using answers to develop models that compete with it; "
    "it permits models that are not given to third parties and mainly categorize, classify or organize data. "
)


def say_terms(host: str) -> None:
    """Names the upstream's terms, once for an output file."""
    openai = MOST_TERMS if host.endswith("openai.com") else ""
    note(f"Check that the terms of {host} allow training on its answers. {openai}This is not legal advice.")


class ReplayBar:
    """A bar on stderr, or now and then a line where stderr is no terminal."""

    def __init__(self, total: int) -> None:
        columns = (TextColumn("asking"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[more]}"))
        self._quiet = not err().is_terminal
        self._bar = Bar(*columns, console=err(), transient=True, disable=self._quiet)
        self._task = self._bar.add_task("", total=total, more="")
        self._started = time.monotonic()
        self._next_line = self._started + LINE_SECONDS

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        """Shows how far the run is."""
        more = self._more(progress)
        self._bar.update(self._task, completed=progress.done, more=more)
        if self._quiet and time.monotonic() > self._next_line:
            self._next_line = time.monotonic() + LINE_SECONDS
            note(f"{progress.done:,} of {progress.total:,} answered{more and f', {more}'}")

    def stopping(self) -> None:
        """Says that the run ends after the answers under way."""
        note("Stopping after the answers under way; again to stop at once.")

    def _more(self, progress: Progress) -> str:
        seconds = time.monotonic() - self._started
        left = (progress.total - progress.done) * seconds / max(1, progress.asked)
        parts = [f"{duration(left)} left"] if progress.asked else []
        parts += [dollars(progress.spent)] if progress.spent else []
        parts += [f"{progress.refused:,} without an answer"] if progress.refused else []
        parts += [f"told to wait {plural(progress.tally.limited, 'time')}"] if progress.tally.limited else []
        parts += [f"{progress.tally.faults:,} asked again"] if progress.tally.faults else []
        return ", ".join(parts)


def print_written(written: Written, output: Path, spent: float | None, *, as_json: bool) -> None:
    """Prints what came of the rows, and the next command."""
    if as_json:
        refused = [{"line": line, "why": why} for line, why in written.refused]
        values = {"output": str(output), "rows": written.rows, "missing": written.missing, "spent": spent}
        return print_json({**values, "refused": refused})
    for line, why in written.refused[:LISTED]:
        err().print(f"line {line}: {why}", markup=False, soft_wrap=True)
    if len(written.refused) > LISTED:
        note(f"… and {len(written.refused) - LISTED:,} more (--json lists all)")
    cost = f" for {dollars(spent)}" if spent else ""
    if written.rows:
        out().print(f"{plural(written.rows, 'answer')}{cost} in {output}", markup=False, soft_wrap=True)
        note(f"next: tunesmith check {output}")
