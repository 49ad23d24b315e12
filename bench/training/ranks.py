"""One run by 1, 2 … gloo ranks on this machine, one thread each: loss, steps/s, and what adding the gradients costs.

    python bench/training/ranks.py [--base smollm2-135m-instruct] [--ranks 1 2] [--rows 16] [--steps 7] [--rank 16]

Every number of ranks trains the same steps of `--rows` rows of the kinds of `bench/train.py` (`--data`: its name); the
first two steps of each run warm up and are left out of the medians. Losses are compared step by step with those of one
rank. The cost of a reduction is the time from when all ranks have arrived at it until it is done, so that waiting for
a slower rank is not part of it; that wait is the column before it. Compiled layers, float32, a LoRA of rank `--rank`.
The last line is one process with as many threads as there were ranks.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tunesmith.models.directory import pull
from tunesmith.models.registry import resolve_base
from tunesmith.settings import Settings, TrainingOptions
from tunesmith.train.protocol.spec import TrainSpec

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from bench.training.rows import write_rows

WARM_UP = 2  # steps


@dataclass(slots=True)
class Measured:
    """What rank 0 saw of one run, a number for each step."""

    losses: list[float] = field(default_factory=list)
    step_ends: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)  # seconds until all ranks had their gradient
    sums: list[float] = field(default_factory=list)  # seconds that adding them took
    bytes: int = 0

    def median(self, values: list[float]) -> float:
        return statistics.median(values[WARM_UP:])

    @property
    def step_seconds(self) -> float:
        ends = self.step_ends
        return statistics.median(late - early for early, late in zip(ends[WARM_UP:], ends[WARM_UP + 1 :], strict=False))


def member(spec: Path, output: Path) -> None:
    """One rank; rank 0 writes what it measured."""
    import torch

    from tunesmith.train.core.interrupt import Interrupt
    from tunesmith.train.protocol.events import Event, Step
    from tunesmith.train.ranks.group import Ranks, join
    from tunesmith.train.ranks.place import Place
    from tunesmith.train.ranks.watch import Ending
    from tunesmith.train.start import start

    found = Measured()

    class Timed(Ranks):
        def add_up(self, tensor: torch.Tensor) -> None:
            if tensor.dtype != torch.float32:  # the measures of a step, not its gradient
                return super().add_up(tensor)
            began = time.perf_counter()
            self.of_all(None)
            arrived = time.perf_counter()
            super().add_up(tensor)
            found.waits.append(arrived - began)
            found.sums.append(time.perf_counter() - arrived)
            found.bytes = tensor.nbytes

    def listen(event: Event) -> None:
        if isinstance(event, Step):
            found.losses.append(event.train_loss)
            found.step_ends.append(time.perf_counter())

    interrupt = Interrupt()
    interrupt.install()
    with interrupt.interruptible():
        joined = join(Place.of(os.environ), interrupt)
        ranks = Timed(joined.place, joined.watch)
        run = start(TrainSpec.read(spec), listen, interrupt, ranks)
    run.train()
    if ranks.leads:
        output.write_text(json.dumps(asdict(found)), "utf-8")
    ranks.leave(Ending("done"))
    os._exit(0)


def measure(spec: TrainSpec, size: int, folder: Path) -> Measured:
    """A run by `size` ranks."""
    spec.write(folder / "spec.json")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    command = [sys.executable, __file__, "--member", str(folder / "spec.json"), str(folder / "measured.json")]
    places = {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    common = {**os.environ, "OMP_NUM_THREADS": "1", **{name: str(value) for name, value in places.items()}}
    processes = [
        subprocess.Popen(command, env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(size)
    ]
    codes = [process.wait() for process in processes]
    if any(codes):
        raise SystemExit(f"The ranks ended with {codes}.")
    return Measured(**json.loads((folder / "measured.json").read_text("utf-8")))


def print_table(found: dict[tuple[int, int], Measured]) -> None:
    one = next(iter(found.values()))
    print("| ranks | threads of each | steps/s | speed | wait | reduction | of the step | bytes | loss differs by |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for (size, threads), run in found.items():
        difference = max(abs(mine - theirs) for mine, theirs in zip(run.losses, one.losses, strict=True))
        reduction = run.median(run.sums)
        print(
            f"| {size} | {threads} | {1 / run.step_seconds:.3f} | {one.step_seconds / run.step_seconds:.2f} "
            f"| {1e3 * run.median(run.waits):.1f} ms | {1e3 * reduction:.2f} ms | {reduction / run.step_seconds:.2%} "
            f"| {run.bytes if size > 1 else 0:,} | {difference:.1e} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="smollm2-135m-instruct", help="a base's name, or its folder")
    parser.add_argument("--data", default="instructions", help="shared-prompt, instructions, tools or weather")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2], help="the first is compared with")
    parser.add_argument("--rows", type=int, default=16, help="of a step")
    parser.add_argument("--steps", type=int, default=7, help=f"{WARM_UP} of them warm up")
    parser.add_argument("--rank", type=int, default=16, help="of the LoRA")
    options = parser.parse_args()
    settings = Settings()
    folder = Path(options.base)
    base = folder if folder.is_dir() else pull(resolve_base(options.base, settings), settings)
    found: dict[tuple[int, int], Measured] = {}
    with tempfile.TemporaryDirectory() as name:
        write_rows(Path(name), rows=options.rows * options.steps)
        for size, threads in [*((size, 1) for size in options.ranks), (1, max(options.ranks))]:
            output = Path(name) / f"{size}-{threads}"
            output.mkdir()
            spec = TrainSpec(
                job_id="ranks",
                base_name="ranks",
                base_dir=base,
                training_file=Path(name) / f"{options.data}.jsonl",
                output_dir=output / "output",
                n_epochs=1,
                batch_size=options.rows,
                threads=size * threads,
                checkpoint_seconds=0,
                options=TrainingOptions(lora_rank=options.rank),
                blocked_weights=True,
            )
            found[size, threads] = measure(spec, size, output)
    print_table(found)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--member"]:
        member(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        main()
