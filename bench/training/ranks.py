"""One run by 1, 2 … gloo ranks on this machine, one thread each: loss, steps/s, memory, and what the exchange costs.

    python bench/training/ranks.py [--base smollm2-135m-instruct] [--ranks 1 2] [--rows 16] [--steps 7] [--rank 16]
    python bench/training/ranks.py --adapter none --rows 4 --steps 5 --sharding none full     # replicas and shards

Every number of ranks trains the same steps of `--rows` rows of the kinds of `bench/train.py` (`--data`: its name); the
first two steps of each run warm up and are left out of the medians. Losses are compared step by step with those of one
rank. The cost of a reduction is the time from when all ranks have arrived at it until it is done, so that waiting for
a slower rank is not part of it; that wait is the column before it. Float32; a LoRA of rank `--rank` on compiled layers,
or with `--adapter none` all weights. The last line is one process with as many threads as there were ranks.

`--sharding full` has each rank hold a part of the weights (train_sharding). Its exchange has no single moment: the
column "exchange" is the time that a step spends in all sums and gatherings, the wait for slower ranks included, and is
there for replicas too. Memory is the peak of the rank that has most, with the pages of the base's file.
"""

import argparse
import json
import os
import resource
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
    exchanges: list[float] = field(default_factory=list)  # seconds in all sums and gatherings, waiting included
    bytes: int = 0
    peak: int = 0  # bytes of memory of the rank that has most

    def median(self, values: list[float]) -> float:
        return statistics.median(values[WARM_UP:]) if values else 0.0

    @property
    def step_seconds(self) -> float:
        ends = self.step_ends
        return statistics.median(late - early for early, late in zip(ends[WARM_UP:], ends[WARM_UP + 1 :], strict=False))


def member(spec: Path, output: Path) -> None:
    """One rank; rank 0 writes what it measured."""
    import torch
    import torch.distributed as dist

    from tunesmith.train.core.interrupt import Interrupt
    from tunesmith.train.protocol.events import Event, Step
    from tunesmith.train.ranks.group import Ranks, join
    from tunesmith.train.ranks.place import Place
    from tunesmith.train.ranks.watch import Ending
    from tunesmith.train.start import start

    found = Measured()

    class Timed(Ranks):
        exchanged = 0.0

        def wait(self, work: dist.Work | None) -> None:
            began = time.perf_counter()
            super().wait(work)
            self.exchanged += time.perf_counter() - began

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
            found.exchanges.append(ranks.exchanged)
            ranks.exchanged = 0.0

    interrupt = Interrupt()
    interrupt.install()
    with interrupt.interruptible():
        joined = join(Place.of(os.environ), interrupt)
        ranks = Timed(joined.place, joined.watch)
        run = start(TrainSpec.read(spec), listen, interrupt, ranks)
    run.train()
    peaks = ranks.of_all(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    found.peak = max(peak for peak in peaks if isinstance(peak, int))
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


def print_table(found: dict[tuple[int, int, str], Measured]) -> None:
    one = next(iter(found.values()))
    print(
        "| ranks | threads of each | weights | s/step | speed | memory of a rank | exchange | of the step "
        "| wait | reduction | of the step | bytes | loss differs by |"
    )
    print("| ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for (size, threads, sharding), run in found.items():
        difference = max(abs(mine - theirs) for mine, theirs in zip(run.losses, one.losses, strict=True))
        reduction = run.median(run.sums)
        print(
            f"| {size} | {threads} | {'a part' if sharding == 'full' and size > 1 else 'all'} | {run.step_seconds:.3f} "
            f"| {one.step_seconds / run.step_seconds:.2f} | {run.peak / 1e9:.2f} GB "
            f"| {1e3 * run.median(run.exchanges):.1f} ms | {run.median(run.exchanges) / run.step_seconds:.2%} "
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
    parser.add_argument("--adapter", default="lora", choices=("lora", "none"), help="none: all weights are trained")
    parser.add_argument("--sharding", nargs="+", default=["none"], choices=("none", "full"), help="of several ranks")
    options = parser.parse_args()
    settings = Settings()
    folder = Path(options.base)
    base = folder if folder.is_dir() else pull(resolve_base(options.base, settings), settings)
    found: dict[tuple[int, int, str], Measured] = {}
    several = [(size, 1, one) for size in options.ranks if size > 1 for one in options.sharding]
    runs = [*((1, 1, "none") for size in options.ranks if size == 1), *several, (1, max(options.ranks), "none")]
    with tempfile.TemporaryDirectory() as name:
        write_rows(Path(name), rows=options.rows * options.steps)
        for size, threads, sharding in runs:
            output = Path(name) / f"{size}-{threads}-{sharding}"
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
                options=TrainingOptions(
                    lora_rank=options.rank,
                    adapter=options.adapter,
                    base_learning_rate=2.5e-4 if options.adapter == "lora" else 2e-5,
                ),
                blocked_weights=True,
                sharding=sharding,
            )
            found[size, threads, sharding] = measure(spec, size, output)
    print_table(found)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--member"]:
        member(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        main()
