"""What `tunesmith estimate` says of a job's time and memory, beside what the job then takes.

    python bench/training/estimates.py [--shape qwen3-0.6b llama3.2-1b …] [--only KIND ...] [--base NAME]

For each shape (random weights in bfloat16, `bench/shapes.py`, made once) the speed of this machine is measured anew, as
`tunesmith estimate --measure` does; then three short jobs are estimated and run, each in a process of its own: rows
with a shared prompt and plain ones, four a step, and short rows one a step, whose weights are kept in two layouts. The
time is the trainer's from its start to its end, the peak what the kernel saw. Run it on an idle machine.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from bench.shapes import SHAPES, base_of_shape
from bench.training.rows import write_rows

from tunesmith.models.directory import materialise
from tunesmith.models.registry import resolve_base
from tunesmith.settings import Settings, TrainingOptions
from tunesmith.system.python import module_command
from tunesmith.train.protocol.environment import trainer_environment
from tunesmith.train.protocol.spec import TrainSpec


@dataclass(frozen=True, slots=True)
class Kind:
    """A job: the rows of a file, and how they are trained."""

    rows: int
    batch_size: int
    epochs: int


KINDS = {"shared-prompt": Kind(12, 4, 1), "instructions": Kind(12, 4, 1), "weather": Kind(10, 1, 4)}


@dataclass(frozen=True, slots=True)
class Taken:
    """Of a job: estimated, or measured."""

    seconds: float
    peak_bytes: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", nargs="+", choices=SHAPES, default=[])
    parser.add_argument("--base", nargs="+", default=[], help="bases as they are configured")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=[*KINDS])
    options = parser.parse_args()
    settings = Settings()
    bases = {name: base_of_shape(name, settings) for name in options.shape}
    bases |= {name: materialise(resolve_base(name, settings), settings) for name in options.base}
    table = Table("base", "rows", "seconds: estimate", "job", "off by", "peak GB: estimate", "job", "off by")
    for name, directory in (bases or {"qwen3-0.6b": base_of_shape("qwen3-0.6b", settings)}).items():
        for old in (settings.cache_dir / "benchmarks").glob(f"{name}--*"):
            old.unlink()
        for kind in options.only:
            with tempfile.TemporaryDirectory(prefix="tunesmith-bench-") as folder:
                table.add_row(name, kind, *compared(name, directory, kind, Path(folder)))
                Console().print(table)


def compared(name: str, directory: Path, kind: str, folder: Path) -> list[str]:
    """The cells of a line."""
    write_rows(folder)
    file, how = folder / f"{kind}.jsonl", KINDS[kind]
    file.write_text("".join(file.read_text("utf-8").splitlines(keepends=True)[: how.rows]), "utf-8")
    said, took = estimated(name, directory, file, how), trained(name, directory, file, how)
    cells = []
    for mine, real in ((said.seconds, took.seconds), (said.peak_bytes / 1e9, took.peak_bytes / 1e9)):
        cells += [f"{mine:.2f}", f"{real:.2f}", f"{mine / real - 1:+.0%}"]
    return cells


def estimated(name: str, directory: Path, file: Path, how: Kind) -> Taken:
    """By the command, which measures the machine where it has not yet."""
    numbers = ["--epochs", str(how.epochs), "--batch-size", str(how.batch_size)]
    command = module_command("tunesmith.cli", "estimate", str(file), "--base", name, *numbers, "--measure", "--json")
    environment = {**os.environ, "TUNESMITH_DATA_DIR": str(file.parent / "data")}
    if name in SHAPES:
        environment["TUNESMITH_BASES"] = json.dumps({name: str(directory)})
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout)
    return Taken(found["seconds"], found["peak_memory_bytes"])


def trained(name: str, directory: Path, file: Path, how: Kind) -> Taken:
    """By a trainer, as a job starts it."""
    spec = file.with_name("spec.json")
    TrainSpec(
        job_id="estimates",
        base_name=name,
        base_dir=directory,
        training_file=file,
        output_dir=file.parent / "output",
        n_epochs=how.epochs,
        batch_size=how.batch_size,
        options=TrainingOptions(),
    ).write(spec)
    began = time.monotonic()
    command = module_command("tunesmith.train", str(spec))
    trainer = subprocess.Popen(command, env=trainer_environment(), stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(trainer.pid, 0)
    trainer.returncode = os.waitstatus_to_exitcode(status)  # of which Popen was not told
    if trainer.returncode:
        raise SystemExit("The trainer failed.")
    return Taken(time.monotonic() - began, usage.ru_maxrss * 1024)


if __name__ == "__main__":
    main()
