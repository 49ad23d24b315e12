"""A job's `integrations`: its metrics in Weights & Biases.

A child process for each sends them (see `wandb_run`). Nothing that goes wrong there fails a job or delays it by more
than `CLOSE_SECONDS`: it becomes a warning event. What is not covered: a login that wandb keeps in ~/.netrc; the key is
a setting or WANDB_API_KEY.
"""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import cast

from tunesmith.jsonvalue import JsonObject
from tunesmith.launch.output import LineReader
from tunesmith.settings import Settings
from tunesmith.store import JobFiles, JobRow
from tunesmith.system.python import module_command, without_keys
from tunesmith.train.protocol.events import Event, Log, events_of
from tunesmith.worker.handover import without_secrets
from tunesmith.worker.wandb_run import Plan

CLOSE_SECONDS = 10.0  # to send the last steps before the job is finished; then the child goes on alone
TAG_LENGTH = 64  # wandb refuses longer ones


@dataclass(slots=True)
class Sender:
    """A running child. Its log events are read like a trainer's."""

    process: subprocess.Popen[bytes]
    reader: LineReader

    def close(self) -> None:
        """Asks it to send the rest and to end, and waits up to `CLOSE_SECONDS`."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            return


@dataclass(slots=True)
class Senders:
    """The children that send a job's metrics, and what its owner has to know of them."""

    senders: list[Sender] = field(default_factory=list)
    notices: list[Log] = field(default_factory=list)

    def events(self) -> Iterator[Event]:
        """Log events since the last call."""
        yield from self.notices
        self.notices = []
        for sender in self.senders:
            yield from events_of(sender.reader.read())

    def close(self) -> None:
        """Closes all children; see `Sender.close`."""
        for sender in self.senders:
            sender.close()


def start_senders(job: JobRow, files: JobFiles, settings: Settings) -> Senders:
    """Starts what the job asks for; a warning says what is missing and how to fix it."""
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
    """What this machine lacks and how to fix it; None when metrics can be sent."""
    if find_spec("wandb") is None:
        return "the package is not installed where the worker runs. Run `pip install wandb` there"
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
    output = files.directory / f"{plan.run_id}.wandb.jsonl"
    with output.open("wb") as stdout, output.with_suffix(".log").open("ab") as stderr:
        process = subprocess.Popen(
            module_command("tunesmith.worker.wandb_run", plan.to_argument()),
            stdin=subprocess.PIPE,  # closed when the worker ends, however it ends
            stdout=stdout,
            stderr=stderr,
            env=_environment(settings),
            start_new_session=True,
        )
    return Sender(process, LineReader(output))


def _environment(settings: Settings) -> dict[str, str]:
    """What the process that reports to Weights & Biases may know: nothing of the database and the object storage."""
    own = {name: value for name, value in os.environ.items() if name.startswith("WANDB_")}
    key = _key(settings)
    given = {} if key is None else {"WANDB_API_KEY": key}
    return {**without_secrets(without_keys(os.environ), type(settings)), **own, **given}


def _warning(message: str) -> Log:
    return Log("warn", message)
