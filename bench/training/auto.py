"""Trials behind "auto": held-out loss over learning rate, batch size, rank and schedule, on several datasets.

    python bench/training/auto.py --data FOLDER

FOLDER has `*.jsonl` files; of each, `--rows` rows are trained on and the next `--held-out` ones are not. Every result
is a line of `--results`, and what stands there is not run again: stop it and start it as you like. Prints a table.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from tunesmith.jsonvalue import JsonObject
from tunesmith.models.directory import pull
from tunesmith.models.registry import resolve_base
from tunesmith.settings import TrainingOptions, get_settings
from tunesmith.train.core.interrupt import Interrupt
from tunesmith.train.protocol.events import Event, Step
from tunesmith.train.protocol.spec import TrainSpec

RATES = (1.25e-4, 2.5e-4, 5e-4, 1e-3)
BATCHES = (1, 4, 8)
CHOSEN_RATE, CHOSEN_BATCH, CHOSEN_RANK = 5e-4, 4, 16


@dataclass(frozen=True, slots=True)
class Trial:
    file: str
    method: str
    rows: int
    learning_rate: float
    batch_size: int
    rank: int = CHOSEN_RANK
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    n_epochs: int = 2


def main() -> None:
    options = _options()
    settings = get_settings()
    base = pull(resolve_base("smollm2-135m-instruct", settings), settings)
    done = _read(options.results)
    began = time.monotonic()
    for trial in _trials(options):
        if trial in done:
            continue
        if time.monotonic() - began > options.seconds:
            break
        done[trial] = _run(trial, base, options)
        with options.results.open("a") as file:
            file.write(json.dumps({"trial": asdict(trial), "result": done[trial]}) + "\n")
        print(trial, done[trial], file=sys.stderr, flush=True)
    _print_table(done)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=48)
    parser.add_argument("--held-out", type=int, default=24)
    parser.add_argument("--only", nargs="*", default=[], help="parts of file names")
    parser.add_argument("--rates", type=float, nargs="*", default=RATES)
    parser.add_argument("--batches", type=int, nargs="*", default=BATCHES)
    parser.add_argument("--ranks", type=int, nargs="*", default=(8, 32))
    parser.add_argument("--schedules", nargs="*", default=("cosine", "constant"))
    parser.add_argument("--results", type=Path, default=Path("auto-trials.jsonl"))
    parser.add_argument("--seconds", type=float, default=1e9, help="start no trial after this long")
    return parser.parse_args()


def _trials(options: argparse.Namespace) -> Iterator[Trial]:
    for path in sorted(options.data.glob("*.jsonl")):
        if options.only and not any(part in path.name for part in options.only):
            continue
        method = "dpo" if "preferred_output" in path.read_text("utf-8")[:20_000] else "supervised"
        about = (path.name, method, options.rows)
        yield from (Trial(*about, rate, batch) for batch in options.batches for rate in options.rates)
        yield from (Trial(*about, CHOSEN_RATE, CHOSEN_BATCH, rank=rank) for rank in options.ranks)
        yield from (Trial(*about, CHOSEN_RATE, CHOSEN_BATCH, schedule=name) for name in options.schedules)


def _run(trial: Trial, base: Path, options: argparse.Namespace) -> JsonObject:
    from tunesmith.train.start import start

    folder = Path(tempfile.mkdtemp(prefix="auto-trial-"))
    lines = (options.data / trial.file).read_text("utf-8").splitlines()
    training, held_out = lines[: trial.rows], lines[trial.rows : trial.rows + options.held_out]
    for name, rows in (("training", training), ("held-out", held_out or training)):  # a tiny file is its own test
        (folder / f"{name}.jsonl").write_text("\n".join(rows) + "\n", "utf-8")
    events: list[Event] = []
    began = time.monotonic()
    start(_spec(trial, base, folder), events.append, Interrupt()).train()
    shutil.rmtree(folder)
    epochs = [event for event in events if isinstance(event, Step) and event.full_valid_loss is not None]
    return {
        "losses": [epoch.full_valid_loss for epoch in epochs],
        "accuracy": epochs[-1].full_valid_mean_token_accuracy,
        "seconds": time.monotonic() - began,
    }


def _spec(trial: Trial, base: Path, folder: Path) -> TrainSpec:
    return TrainSpec(
        job_id="trial",
        base_name="smollm2-135m-instruct",
        base_dir=base,
        training_file=folder / "training.jsonl",
        validation_file=folder / "held-out.jsonl",
        output_dir=folder / "run",
        method="dpo" if trial.method == "dpo" else "supervised",
        n_epochs=trial.n_epochs,
        batch_size=trial.batch_size,
        learning_rate_multiplier=1.0,
        options=TrainingOptions(
            base_learning_rate=trial.learning_rate,
            lora_rank=trial.rank,
            lora_alpha=2.0 * trial.rank,
            schedule=trial.schedule,
        ),
        validate_every=1_000_000,  # only at the ends of epochs
        checkpoint_seconds=0,
    )


def _read(path: Path) -> dict[Trial, JsonObject]:
    if not path.is_file():
        return {}
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return {Trial(**line["trial"]): line["result"] for line in lines}


def _print_table(done: dict[Trial, JsonObject]) -> None:
    print("| rows | batch | rate | rank | schedule | held-out loss, by epoch | accuracy | seconds |")
    print("| --- | ---: | ---: | ---: | --- | --- | ---: | ---: |")
    for trial, result in sorted(done.items(), key=lambda item: repr(item[0])):
        losses = " ".join(f"{float(str(loss)):.3f}" for loss in result["losses"])  # type: ignore[union-attr]
        print(
            f"| {trial.file} | {trial.batch_size} | {trial.learning_rate:g} | {trial.rank} | {trial.schedule} "
            f"| {losses} | {float(str(result['accuracy'])):.3f} | {float(str(result['seconds'])):.0f} |"
        )


if __name__ == "__main__":
    main()
