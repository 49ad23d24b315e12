"""The child process that sends a job's metrics to Weights & Biases.

It is `python -m tunesmith.worker.wandb_run PLAN`, with the plan as JSON. It follows the trainer's events file by
itself, so that a slow network delays nothing else, and ends when the trainer does or when its stdin closes (the worker
has ended). It writes log events to stdout, as a trainer does. A later attempt at the job continues the same run: wandb
ignores steps that it has.

Source: docs.wandb.ai, `wandb.init`, `Run.log`, `Run.finish`.
"""

import json
import select
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from tunesmith.jsonvalue import JsonObject
from tunesmith.launch.output import LineReader
from tunesmith.train.protocol.events import Done, EventWriter, Failed, Log, Step, events_of

Measures: TypeAlias = dict[str, int | float]

POLL_SECONDS = 0.2
INIT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Plan:
    """Where the metrics come from, and the run in Weights & Biases that they go to."""

    events: str  # the trainer's stdout
    directory: str  # where wandb keeps its files
    run_id: str
    project: str
    name: str
    entity: str | None
    tags: list[str]
    config: JsonObject

    def to_argument(self) -> str:
        """The plan as the child's argument."""
        return json.dumps(asdict(self))


class Run(Protocol):
    """The part of wandb's run that is used here."""

    url: str | None
    dir: str

    def log(self, data: Measures, step: int) -> None:
        """Sends the measures of a step."""
        ...

    def finish(self, exit_code: int) -> None:
        """Waits until all is sent."""
        ...


def main(argument: str) -> None:
    """Sends the metrics of one attempt, until its trainer has ended."""
    plan = Plan(**json.loads(argument))
    run = _start(plan)
    where = run.url or f"files on the worker's machine: {Path(run.dir).parent} (`wandb sync` sends them later)"
    _report("info", f"Weights & Biases: metrics of this job go to {where}")
    reader, ended, succeeded = LineReader(Path(plan.events)), False, False
    while not ended:
        ended = bool(select.select([sys.stdin], [], [], POLL_SECONDS)[0])  # closed: nothing more will be written
        for event in events_of(reader.read()):
            if isinstance(event, Step):
                run.log(measures(event), step=event.step)
            ended = ended or isinstance(event, Done | Failed)
            succeeded = succeeded or isinstance(event, Done)
    run.finish(exit_code=0 if succeeded else 1)


def measures(step: Step) -> Measures:
    """The numbers of a step, under the names of the job's events."""
    return {key: value for key, value in step.to_json().items() if key != "step" and isinstance(value, int | float)}


def _start(plan: Plan) -> Run:
    import wandb

    settings = wandb.Settings(
        console="off",
        silent=True,
        disable_git=True,
        disable_code=True,
        init_timeout=INIT_SECONDS,
        x_disable_stats=True,
        x_disable_meta=True,  # nothing of this machine leaves it
    )
    run: Run = wandb.init(
        id=plan.run_id,
        resume="allow",
        project=plan.project,
        name=plan.name,
        entity=plan.entity,
        tags=plan.tags,
        dir=plan.directory,
        config=plan.config,
        settings=settings,
    )
    return run


def _report(level: str, message: str) -> None:
    EventWriter(sys.stdout)(Log(level, message))


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except Exception as error:
        _report("warn", f"Weights & Biases gets no more metrics of this job: {error}".replace("\n", " ")[:500])
        raise
