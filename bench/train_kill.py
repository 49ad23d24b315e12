"""Kills trainers at random moments and compares what comes out with an undisturbed run, byte by byte.

    python bench/train_kill.py [--kills 20] [--jobs 4] [--only JOB] [--base NAME_OR_FOLDER] [--data FILE]

Each job is trained once undisturbed and once with SIGKILLs at random moments, from the first import to the last write.
Every attempt must report its steps without gap or repeat, from the first; a step reported twice must be the same twice;
and the adapters must be equal. `--only` runs one of the jobs, with its share of the kills.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from tunesmith.models.directory import pull
from tunesmith.models.registry import resolve_base
from tunesmith.settings import Settings
from tunesmith.train.spec import LoraSpec, TrainSpec

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from bench.train_rows import write_rows

Measures = dict[int, tuple[float, float]]  # step -> loss, gradient norm


@dataclass(frozen=True, slots=True)
class Attempt:
    ended: bool  # by itself
    resumed_from: int | None  # step; None: killed before it said
    last_step: int


def run(spec: TrainSpec, folder: Path, seen: Measures, kill_after: float | None) -> Attempt:
    """Adds to `seen` what this attempt reported for the first time."""
    path, log = folder / "spec.json", folder / "events.jsonl"
    spec.write(path)
    with log.open("w") as output, (folder / "errors.log").open("w") as errors:
        process = subprocess.Popen([sys.executable, "-m", "tunesmith.train", str(path)], stdout=output, stderr=errors)
        try:
            process.wait(kill_after)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode not in (0, -signal.SIGKILL):
        raise SystemExit(f"The trainer failed: {log.read_text('utf-8')[-500:]}\n{(folder / 'errors.log').read_text()}")
    resumed, last = None, 0
    for line in log.read_text("utf-8").splitlines(keepends=True):
        if not line.endswith("\n"):
            break  # the kill fell into its writing; the next attempt repeats it
        event = json.loads(line)
        if event["type"] == "started":
            resumed = event["resumed_from_step"]
        if event["type"] == "step":
            if event["step"] != last + 1:
                raise SystemExit(f"Step {event['step']} was reported after step {last}.")
            last += 1
            measures = (event["train_loss"], event["grad_norm"])
            if seen.setdefault(last, measures) != measures:
                raise SystemExit(f"Step {last} was reported as {seen[last]} and as {measures}.")
    return Attempt(process.returncode == 0, resumed, last)


def adapter(spec: TrainSpec) -> bytes:
    return (spec.output_dir / "adapter" / "adapter_model.safetensors").read_bytes()


def make_spec(job: int, base: Path, data: Path | None, folder: Path) -> TrainSpec:
    """20 or 10 steps of short rows, every third job with dropout. Progress is saved each second: a kill costs steps."""
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
        checkpoint_seconds=1.0,
        lora=LoraSpec(rank=4, alpha=8.0, dropout=0.05 * (job % 3 == 2)),
    )


def disturb(spec: TrainSpec, folder: Path, kills: int, draw: random.Random) -> int:
    """Trains `spec` whole and disturbed; gives the number of kills. Raises SystemExit when the two differ."""
    expected: Measures = {}
    began = time.monotonic()
    run(spec, folder, expected, None)
    whole = time.monotonic() - began
    seen: Measures = {}
    disturbed = replace(spec, output_dir=folder / "disturbed")
    done: list[Attempt] = []
    while not done or not done[-1].ended:
        after = draw.uniform(0.2, 1.0) * whole if len(done) < kills else None
        done.append(run(disturbed, folder, seen, after))
    same = adapter(spec) == adapter(disturbed)
    ways = ", ".join(f"{'-' if one.resumed_from is None else one.resumed_from} to {one.last_step}" for one in done)
    print(
        f"{spec.job_id}: {len(expected)} steps in {whole:.0f} s; {len(done) - 1} kills; resumed from, reached: {ways}"
    )
    print(f"  adapters equal: {same}; reports equal: {seen == expected}", flush=True)
    if not same or seen != expected:
        raise SystemExit(1)
    return len(done) - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="over all jobs")
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--only", type=int, help="the number of the one job to run, from 0")
    parser.add_argument("--base", default="smollm2-135m-instruct", help="a base's name, or a Hugging Face directory")
    parser.add_argument("--data", type=Path, help="chat JSONL; default: rows made from a seed")
    options = parser.parse_args()
    settings = Settings()
    folder = Path(options.base)
    base = folder if (folder / "config.json").is_file() else pull(resolve_base(options.base, settings), settings)
    kills = 0
    with tempfile.TemporaryDirectory() as name:
        for job in range(options.jobs) if options.only is None else [options.only]:
            share = options.kills * (job + 1) // options.jobs - options.kills * job // options.jobs
            here = Path(name) / str(job)
            kills += disturb(make_spec(job, base, options.data, here), here, share, random.Random(job))
    print(f"{kills} kills in all.")


if __name__ == "__main__":
    main()
