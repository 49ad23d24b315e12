"""Kills trainers at random moments and compares what comes out with an undisturbed run, byte by byte.

    python bench/train_kill.py [--kills 20] [--jobs 4] [--base DIR] [--data FILE]

Each job is trained once undisturbed and once with SIGKILLs at random moments, from the first import to the last write.
Its events must come without gap or repeat once steps already seen are left out, as the worker leaves them out.
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
from dataclasses import replace
from pathlib import Path

from tunesmith.models.directory import pull
from tunesmith.models.registry import resolve_base
from tunesmith.settings import Settings
from tunesmith.train.spec import LoraSpec, TrainSpec

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from bench.train_rows import write_rows

Measures = dict[int, tuple[float, float]]  # step -> loss, gradient norm


def run(spec: TrainSpec, folder: Path, seen: Measures, kill_after: float | None) -> bool:
    """One attempt; True when it ended by itself. Adds to `seen` what it reported for the first time."""
    path = folder / "spec.json"
    spec.write(path)
    command = [sys.executable, "-m", "tunesmith.train", str(path)]
    log = folder / "events.jsonl"
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL)
        try:
            process.wait(kill_after)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
    for line in log.read_text("utf-8").splitlines():
        event = json.loads(line)
        if event["type"] == "step":
            measures = (event["train_loss"], event["grad_norm"])
            if seen.setdefault(event["step"], measures) != measures:
                raise SystemExit(f"Step {event['step']} was reported as {seen[event['step']]} and as {measures}.")
    return process.returncode == 0


def adapter(spec: TrainSpec) -> bytes:
    return (spec.output_dir / "adapter" / "adapter_model.safetensors").read_bytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="over all jobs")
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--base", type=Path, help="a Hugging Face directory; default: SmolLM2-135M-Instruct")
    parser.add_argument("--data", type=Path, help="chat JSONL; default: rows made from a seed")
    options = parser.parse_args()
    settings = Settings()
    base = options.base or pull(resolve_base("smollm2-135m-instruct", settings), settings)
    draw = random.Random(0)
    kills = 0
    with tempfile.TemporaryDirectory() as name:
        for job in range(options.jobs):
            folder = Path(name) / str(job)
            write_rows(folder, seed=job, rows=12)
            spec = TrainSpec(
                job_id=f"kill-{job}",
                base_name="kill",
                base_dir=base,
                training_file=options.data or folder / "instructions.jsonl",
                output_dir=folder / "whole",
                n_epochs=2,
                batch_size=1 + job,
                seed=job,
                checkpoint_seconds=1.0,
                lora=LoraSpec(rank=4, alpha=8.0, dropout=0.05 * (job % 2)),
            )
            expected: Measures = {}
            began = time.monotonic()
            run(spec, folder, expected, None)
            whole = time.monotonic() - began
            seen: Measures = {}
            disturbed = replace(spec, output_dir=folder / "disturbed")
            wanted = options.kills * (job + 1) // options.jobs
            while not run(disturbed, folder, seen, draw.uniform(0.2, 1.0) * whole if kills < wanted else None):
                kills += 1
            same = adapter(spec) == adapter(disturbed)
            print(f"job {job}: {len(expected)} steps in {whole:.0f} s; {kills} kills so far; adapters equal: {same}; "
                  f"reports equal: {seen == expected}", flush=True)  # fmt: skip
            if not same or seen != expected:
                raise SystemExit(1)


if __name__ == "__main__":
    main()
