"""Kills trainers at random moments and compares what comes out with an undisturbed run, byte by byte.

    python bench/training/kill.py [--kills 20] [--jobs 4] [--only JOB] [--base NAME_OR_FOLDER] [--data FILE]
        [--keep DIR]

Each job is trained once undisturbed and once with SIGKILLs: one of three at a random moment, from the first import to
the last write, the others within a twentieth of a second after a random step, so that they fall on steps however busy
the machine is. Every attempt must report its steps without gap or repeat, from the first; a step reported twice must be
the same twice; and the adapters must be equal. The kills are printed as a table. `--base tiny` needs seconds a kill.
`--only` runs one of the jobs, with its share of the kills. With `--keep` a run that was stopped goes on after its last
whole attempt.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from tunesmith.models.directory import pull
from tunesmith.models.registry import resolve_base
from tunesmith.settings import Settings, TrainingOptions
from tunesmith.train.protocol.events import Started, Step, from_json
from tunesmith.train.protocol.spec import TrainSpec

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from bench.training.rows import write_rows

Measures = dict[int, tuple[float, float]]  # step -> loss, gradient norm


@dataclass(frozen=True, slots=True)
class Moment:
    """When a trainer is killed: after some time, or some time after it has told of a step (0: of none)."""

    seconds: float
    step: int = 0

    def __str__(self) -> str:
        return f"step {self.step} + {self.seconds:.2f} s" if self.step else f"{self.seconds:.1f} s"


@dataclass(frozen=True, slots=True)
class Attempt:
    ended: bool  # by itself
    resumed_from: int | None  # step; None: killed before it said
    last_step: int


@dataclass(slots=True)
class State:
    """Of one job, and kept in a file beside it."""

    path: Path
    expected: Measures = field(default_factory=dict)  # of the undisturbed run
    seconds: float = 0.0  # that it took; 0: not yet run
    seen: Measures = field(default_factory=dict)
    done: list[Attempt] = field(default_factory=list)

    def read(self) -> None:
        if self.path.exists():
            value = json.loads(self.path.read_text("utf-8"))
            self.expected, self.seen = _measures(value["expected"]), _measures(value["seen"])
            self.seconds, self.done = value["seconds"], [Attempt(**one) for one in value["done"]]

    def write(self) -> None:
        value = {name: getattr(self, name) for name in ("expected", "seconds", "seen")}
        self.path.write_text(json.dumps({**value, "done": [asdict(one) for one in self.done]}), "utf-8")


def _measures(value: dict[str, list[float]]) -> Measures:
    return {int(step): (loss, norm) for step, (loss, norm) in value.items()}


def run(spec: TrainSpec, folder: Path, seen: Measures, moment: Moment | None) -> Attempt:
    """Adds to `seen` what this attempt reported for the first time."""
    path, log = folder / "spec.json", folder / "events.jsonl"
    spec.write(path)
    with log.open("w") as output, (folder / "errors.log").open("w") as errors:
        process = subprocess.Popen([sys.executable, "-m", "tunesmith.train", str(path)], stdout=output, stderr=errors)
        if moment is not None:
            _kill_at(process, log, moment)
        process.wait()
    if process.returncode not in (0, -signal.SIGKILL):
        raise SystemExit(f"The trainer failed: {log.read_text('utf-8')[-500:]}\n{(folder / 'errors.log').read_text()}")
    resumed, last = None, 0
    for line in log.read_text("utf-8").splitlines(keepends=True):
        if not line.endswith("\n"):
            break  # the kill fell into its writing; the next attempt repeats it
        event = from_json(json.loads(line))
        if isinstance(event, Started):
            resumed = event.resumed_from_step
        if isinstance(event, Step):
            if event.step != last + 1:
                raise SystemExit(f"Step {event.step} was reported after step {last}.")
            last += 1
            measures = (event.train_loss, event.grad_norm or 0.0)
            if seen.setdefault(last, measures) != measures:
                raise SystemExit(f"Step {last} was reported as {seen[last]} and as {measures}.")
    return Attempt(process.returncode == 0, resumed, last)


def _kill_at(process: "subprocess.Popen[bytes]", log: Path, moment: Moment) -> None:
    """Kills the trainer at the moment, unless it ends before."""
    told = f'"step": {moment.step},'.encode()
    while moment.step and process.poll() is None and told not in log.read_bytes():
        time.sleep(0.002)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(moment.seconds)
        return
    os.kill(process.pid, signal.SIGKILL)


def adapter(spec: TrainSpec) -> bytes:
    return (spec.output_dir / "adapter" / "adapter_model.safetensors").read_bytes()


def make_spec(job: int, base: Path, data: Path | None, folder: Path) -> TrainSpec:
    """20 or 10 steps of short rows, every third job with dropout. Progress is saved ten times a second."""
    write_rows(folder, seed=job, rows=1)
    return TrainSpec(
        job_id=f"kill-{job}",
        base_name="kill",
        base_dir=base,
        training_file=data or folder / "weather.jsonl",
        output_dir=folder / "whole",
        n_epochs=2,
        batch_size=1 + job % 2,
        seed=job,
        checkpoint_seconds=0.1,
        options=TrainingOptions(lora_rank=4, lora_alpha=8.0, lora_dropout=0.05 * (job % 3 == 2)),
    )


def disturb(spec: TrainSpec, folder: Path, kills: int) -> int:
    """Trains `spec` whole and disturbed; gives the number of kills. Raises SystemExit when the two differ."""
    state = State(folder / "state.json")
    state.read()
    if not state.seconds:
        began = time.monotonic()
        run(spec, folder, state.expected, None)
        state.seconds = time.monotonic() - began
        state.write()
    disturbed = replace(spec, output_dir=folder / "disturbed")
    while not state.done or not state.done[-1].ended:
        tries = len(state.done)
        moment = _moment(spec, state, tries) if tries < kills else None
        state.done.append(run(disturbed, folder, state.seen, moment))
        state.write()
    same, reports = adapter(spec) == adapter(disturbed), state.seen == state.expected
    for number, one in enumerate(state.done[:-1]):
        resumed = "before it said" if one.resumed_from is None else one.resumed_from
        equal = "yes" if same and reports else "NO"
        steps = f"{resumed} | {one.last_step} of {len(state.expected)}"
        print(f"| {spec.job_id} | {number + 1} | {_moment(spec, state, number)} | {steps} | 0 | {equal} |", flush=True)
    if not same or not reports:
        raise SystemExit(1)
    return len(state.done) - 1


def _moment(spec: TrainSpec, state: State, tries: int) -> Moment:
    """The moment of a kill, by its number and how far the kills before it let the run come."""
    chance = random.Random(f"{spec.job_id}/{tries}")
    if tries % 3 == 0:
        return Moment(chance.uniform(0.1, 0.9) * state.seconds)
    reached = max((one.last_step for one in state.done[:tries]), default=0)
    return Moment(chance.uniform(0, 0.05), min(len(state.expected), reached + chance.randint(1, 2)))


def _base(name: str, here: Path) -> Path:
    """A Hugging Face directory; `tiny` has random weights and the tokenizer of SmolLM2."""
    settings = Settings()
    if (Path(name) / "config.json").is_file():
        return Path(name)
    found = pull(resolve_base("smollm2-135m-instruct" if name == "tiny" else name, settings), settings)
    if name != "tiny":
        return found
    from tests.train.conftest import write_tiny_base

    here.mkdir(parents=True)
    return write_tiny_base(found, here)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="over all jobs")
    parser.add_argument("--jobs", type=int, default=4, help="at least; a job may end before it had its share of kills")
    parser.add_argument("--only", type=int, help="the number of the one job to run, from 0")
    parser.add_argument("--base", default="smollm2-135m-instruct", help="a name, a Hugging Face directory, or tiny")
    parser.add_argument("--data", type=Path, help="chat JSONL; default: rows made from a seed")
    parser.add_argument("--keep", type=Path, help="folder for the runs, which are kept there")
    options = parser.parse_args()
    # Else the undisturbed run would compile, and the kills, placed by its length, would come too late.
    subprocess.run([sys.executable, "-m", "tunesmith.kernels", "training"], check=True)
    kills, began = 0, time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        base = _base(options.base, Path(name) / "base")
        print(f"{datetime.now(UTC):%Y-%m-%d}, trainers on {options.base}, killed at random moments\n")
        print("| job | kill | killed at | resumed from step | reached step | jobs lost | adapter and reports equal |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | --- |", flush=True)
        share = -(-options.kills // options.jobs)
        for job in count() if options.only is None else [options.only]:
            here = (options.keep or Path(name)) / str(job)
            kills += disturb(make_spec(job, base, options.data, here), here, share)
            if kills >= options.kills and job + 1 >= options.jobs:
                break
    print(f"\n{kills} kills in {time.monotonic() - began:.0f} s; jobs lost: 0, all adapters equal.")


if __name__ == "__main__":
    main()
