"""A job's `integrations`: Weights & Biases gets its measures, from a child process for each (see `wandb_run`).

Nothing that goes wrong there fails a job or holds it up for longer than `CLOSE_SECONDS`: it becomes a warning event.
What is not covered: a login that wandb keeps in ~/.netrc; the key is a setting or WANDB_API_KEY.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from tunesmith.jsonvalue import JsonObject
from tunesmith.launch.child import LineReader
from tunesmith.settings import Settings
from tunesmith.store import JobFiles, JobRow
from tunesmith.worker.wandb_run import Plan

CLOSE_SECONDS = 10.0  # for the last steps to go out, before the job is finished; then the child is left to itself
TAG_LENGTH = 64  # wandb refuses longer ones


@dataclass(slots=True)
class Sender:
    """One child at work. Its `log` lines are read like a trainer's."""

    process: subprocess.Popen[bytes]
    reader: LineReader

    def close(self) -> None:
        """Asks it to end with what the trainer has written, and waits a while."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            return


@dataclass(slots=True)
class Senders:
    """Everything that a job's measures go to. `lines` are `log` lines for its events."""

    senders: list[Sender] = field(default_factory=list)
    notices: list[JsonObject] = field(default_factory=list)

    def lines(self) -> Iterator[JsonObject]:
        yield from self.notices
        self.notices = []
        for sender in self.senders:
            yield from sender.reader.read()

    def close(self) -> None:
        for sender in self.senders:
            sender.close()


def start_senders(job: JobRow, files: JobFiles, settings: Settings) -> Senders:
    """Starts what the job asks for; where something is missing, a warning says how to mend it."""
    if not job.integrations:
        return Senders()
    missing = missing_for_wandb(settings)
    if missing is not None:
        return Senders(notices=[_warning(f"Weights & Biases gets no metrics of this job: {missing}")])
    started = Senders()
    for number, integration in enumerate(job.integrations):
        try:
            started.senders.append(_start(_plan(job, files, cast(JsonObject, integration), number), files, settings))
        except OSError as error:
            started.notices.append(_warning(f"Weights & Biases gets no metrics of this job: {error}"))
    return started


def missing_for_wandb(settings: Settings) -> str | None:
    """What the worker's machine lacks and how to mend it; None when metrics can be sent."""
    if find_spec("wandb") is None:
        return "the package is not installed where the worker runs. Run `pip install 'tunesmith[wandb]'` there"
    if os.environ.get("WANDB_MODE") in ("offline", "disabled") or _key(settings):
        return None
    return (
        "there is no API key. Set `wandb_api_key` (TUNESMITH_WANDB_API_KEY) or WANDB_API_KEY where the worker runs, or "
        "WANDB_MODE=offline to keep the metrics there"
    )


def _key(settings: Settings) -> str | None:
    own = settings.wandb_api_key
    return own.get_secret_value() if own is not None else os.environ.get("WANDB_API_KEY")


def _plan(job: JobRow, files: JobFiles, integration: JsonObject, number: int) -> Plan:
    wanted = cast(JsonObject, integration["wandb"])
    name, entity = cast("str | None", wanted.get("name")), cast("str | None", wanted.get("entity"))
    own_tags = ["tunesmith/finetune", f"tunesmith/{job.base_model}", f"tunesmith/{job.id}"]
    tags = [str(tag)[:TAG_LENGTH] for tag in (*cast("list[str]", wanted.get("tags") or []), *own_tags)]
    return Plan(
        events=str(files.events(job.attempt)),
        directory=str(files.directory),
        run_id=job.id if number == 0 else f"{job.id}-{number + 1}",
        project=str(wanted["project"]),
        name=name or job.id,
        entity=entity,
        tags=list(dict.fromkeys(tags)),
        config={
            "model": job.model,
            "training_file": job.training_file,
            "validation_file": job.validation_file,
            "seed": job.seed,
            "method": job.method["type"],
            **job.hyperparameters,
        },
    )


def _start(plan: Plan, files: JobFiles, settings: Settings) -> Sender:
    said = files.directory / f"{plan.run_id}.wandb.jsonl"
    key = _key(settings)
    with said.open("wb") as stdout, said.with_suffix(".log").open("ab") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "tunesmith.worker.wandb_run", plan.to_argument()],
            stdin=subprocess.PIPE,  # closed when the worker ends, however it ends
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, **({} if key is None else {"WANDB_API_KEY": key})},
            start_new_session=True,
        )
    return Sender(process, LineReader(Path(said)))


def _warning(message: str) -> JsonObject:
    return {"type": "log", "level": "warn", "message": message}
