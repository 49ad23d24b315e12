"""What "auto" takes against half and twice its learning rate, on a base and a file of yours.

    python bench/auto.py --base gemma3-270m --file rows.jsonl

The last rows of the file, a quarter of them or `--held-out`, are not trained on. Without `--file` there are 40 rows of
weather jokes: eight kinds of weather, each with a joke of its own, in five cities, the last two of which are held out.
Each of the three rates is trained with the same seeds, in this process and with all else as "auto" has it; prints a
table of the loss on the held-out rows (median and range over the seeds): the lowest of the epochs' ends, which a job
may keep, and that after the last.
"""

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from sys import path as import_path

from tunesmith.check.file_check import CheckOptions, check_file
from tunesmith.estimate.hyperparameters import Hyperparameters, resolve_hyperparameters
from tunesmith.models.directory import pull
from tunesmith.models.registry import resolve_base
from tunesmith.render.renderer import load_renderer
from tunesmith.settings import get_settings
from tunesmith.train.core.interrupt import Interrupt
from tunesmith.train.protocol.events import Event, Step
from tunesmith.train.protocol.spec import TrainSpec

import_path.insert(0, str(Path(__file__).resolve().parents[1]))
from bench.training.rows import joke_rows

FACTORS = {"half": 0.5, "auto": 1.0, "twice": 2.0}


@dataclass(frozen=True, slots=True)
class Run:
    """The loss on the held-out rows at the end of each epoch."""

    losses: tuple[float, ...]


def main() -> None:
    options = _options()
    settings = get_settings()
    base = pull(resolve_base(options.base, settings), settings)
    with tempfile.TemporaryDirectory(prefix="auto-") as temporary:
        folder = Path(temporary)
        lines = _lines(options.file) if options.file else joke_rows()
        counts = _split(lines, folder, options.held_out or (0 if options.file else 16))
        report = check_file(folder / "training.jsonl", CheckOptions(renderer=load_renderer(base), min_examples=1))
        chosen = resolve_hyperparameters({"n_epochs": options.epochs} if options.epochs else None, report)
        began = time.monotonic()
        found: dict[str, list[Run]] = {}
        for name, factor in FACTORS.items():
            for seed in range(1, options.seeds + 1):
                run = _train(options.base, base, folder, chosen, factor, seed)
                found.setdefault(name, []).append(run)
                print(name, seed, run.losses, f"{time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    _print(options, counts, chosen, settings.base_learning_rate, found)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True, help="a base that `tunesmith models list` shows")
    parser.add_argument("--file", type=Path, help="default: 40 rows of weather jokes")
    parser.add_argument("--held-out", type=int, default=0, help="rows; default: a quarter of the file")
    parser.add_argument("--epochs", type=int, default=0, help="default: auto")
    parser.add_argument("--seeds", type=int, default=3)
    return parser.parse_args()


def _name(file: Path | None) -> str:
    return "weather jokes" if file is None else file.name


def _lines(file: Path) -> list[str]:
    return [line for line in file.read_text("utf-8").splitlines() if line.strip()]


def _split(lines: list[str], folder: Path, held_out: int) -> tuple[int, int]:
    """Writes the two parts, and returns their rows."""
    last = held_out or max(1, len(lines) // 4)
    if last >= len(lines):
        raise SystemExit(f"the file has {len(lines)} rows; hold fewer than that out")
    parts = {"training": lines[:-last], "held-out": lines[-last:]}
    for name, rows in parts.items():
        (folder / f"{name}.jsonl").write_text("\n".join(rows) + "\n", "utf-8")
    return len(parts["training"]), last


def _train(name: str, base: Path, folder: Path, chosen: Hyperparameters, factor: float, seed: int) -> Run:
    from tunesmith.train.start import start

    spec = TrainSpec(
        job_id="auto",
        base_name=name,
        base_dir=base,
        training_file=folder / "training.jsonl",
        validation_file=folder / "held-out.jsonl",
        output_dir=folder / f"run-{factor}-{seed}",
        n_epochs=chosen.n_epochs,
        batch_size=chosen.batch_size,
        learning_rate_multiplier=chosen.learning_rate_multiplier * factor,
        seed=seed,
        options=get_settings().training_options(),
        validate_every=1_000_000,  # only at the ends of epochs
        checkpoint_seconds=0,
    )
    events: list[Event] = []
    start(spec, events.append, Interrupt()).train()
    losses = [event.full_valid_loss for event in events if isinstance(event, Step)]
    return Run(tuple(loss for loss in losses if loss is not None))


def _print(
    options: argparse.Namespace,
    rows: tuple[int, int],
    chosen: Hyperparameters,
    base_rate: float,
    found: dict[str, list[Run]],
) -> None:
    print(
        f"{options.base}, {_name(options.file)}: {rows[0]} rows trained on, {rows[1]} held out;"
        f" {chosen.n_epochs} epochs, batch {chosen.batch_size}, {options.seeds} seeds; {datetime.now(UTC):%Y-%m-%d}\n"
    )
    print("| rate | learning rate | best held-out loss | after the last epoch |\n| --- | ---: | ---: | ---: |")
    for name, runs in found.items():
        rate = base_rate * chosen.learning_rate_multiplier * FACTORS[name]
        best, last = [min(run.losses) for run in runs], [run.losses[-1] for run in runs]
        print(f"| {name} | {rate:.3g} | {_spread(best)} | {_spread(last)} |")


def _spread(losses: list[float]) -> str:
    return f"{statistics.median(losses):.3f} ({min(losses):.3f} to {max(losses):.3f})"


if __name__ == "__main__":
    main()
