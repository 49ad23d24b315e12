"""The child that sends a job's measures to Weights & Biases: `python -m tunesmith.worker.wandb_run PLAN`, PLAN as JSON.

It follows the trainer's events file by itself, so that a slow network holds up nobody, and ends when the trainer has
or when its stdin closes (the worker has ended). On stdout it writes `log` lines, as a trainer does. A later attempt at
the job goes on with the same run: wandb ignores steps that it has.

Source: docs.wandb.ai, `wandb.init`, `Run.log`, `Run.finish`.
"""

import json
import select
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from tunesmith.jsonvalue import JsonObject
from tunesmith.launch.child import LineReader

Measures: TypeAlias = dict[str, int | float]

POLL_SECONDS = 0.2
INIT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Plan:
    events: str  # the trainer's stdout
    directory: str  # where wandb keeps its files
    run_id: str
    project: str
    name: str
    entity: str | None
    tags: list[str]
    config: JsonObject

    def to_argument(self) -> str:
        return json.dumps(asdict(self))


class Run(Protocol):
    """What is used of wandb's."""

    url: str | None
    dir: str

    def log(self, data: Measures, step: int) -> None: ...

    def finish(self, exit_code: int) -> None: ...


def main(argument: str) -> None:
    plan = Plan(**json.loads(argument))
    run = _start(plan)
    where = run.url or f"files on the worker's machine: {Path(run.dir).parent} (`wandb sync` sends them later)"
    _say("info", f"Weights & Biases: metrics of this job go to {where}")
    reader, ended, succeeded = LineReader(Path(plan.events)), False, False
    while not ended:
        ended = bool(select.select([sys.stdin], [], [], POLL_SECONDS)[0])  # closed: what is written now is all there is
        for line in reader.read():
            if line.get("type") == "step":
                run.log(measures(line), step=int(str(line["step"])))
            ended = ended or line.get("type") in ("done", "failed")
            succeeded = succeeded or line.get("type") == "done"
    run.finish(exit_code=0 if succeeded else 1)


def measures(line: JsonObject) -> Measures:
    """The numbers of a trainer's step line, under the names of the job's events."""
    return {
        key: value
        for key, value in line.items()
        if key not in ("type", "step") and isinstance(value, int | float) and not isinstance(value, bool)
    }


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


def _say(level: str, message: str) -> None:
    sys.stdout.write(json.dumps({"type": "log", "level": level, "message": message}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except Exception as error:
        _say("warn", f"Weights & Biases gets no more metrics of this job: {error}".replace("\n", " ")[:500])
        raise
