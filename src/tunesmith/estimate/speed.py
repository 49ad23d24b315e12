"""A measurement of this machine's training speed, and what follows for a job.

The measurement itself trains a few steps and needs torch, so it lives in `train`; here are its result, which is cached
as JSON per base and hardware, and the arithmetic.
"""

import re
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

from tunesmith.jsonvalue import JsonObject
from tunesmith.system.checked_json import read_checked, write_checked

LONGEST_NAME = 120  # characters of a file's name, without its end


@dataclass(frozen=True, slots=True)
class Benchmark:
    """The measured speed of one base on one machine.

    `fixed_bytes` is the process with model and optimizer; `bytes_per_token` is what each token of a step adds.
    """

    base: str
    hardware: str  # as `hardware_name()` says it: "cpu x86_64 2 threads", "cuda NVIDIA H100"
    tokens_per_second: float
    seconds_per_step: float  # of a step, besides those of its tokens
    start_seconds: float  # from process start to the first step
    fixed_bytes: int
    bytes_per_token: float
    tokens_at_once: int = 8192  # the trainer divides larger steps
    measured_at: int = 0  # Unix time
    ranks: int = 1  # processes that train together: the speed is that of all, the bytes are those of each
    layouts: int = 1  # of the frozen weights that were in memory; small steps have one for each direction

    def to_json(self) -> JsonObject:
        """The measurement as it is cached."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Workload:
    """What the trainer will compute.

    `tokens` in one epoch (a shared prefix once a step), `largest` in one pass.
    """

    tokens: int
    largest: int


def training_seconds(benchmark: Benchmark, tokens: int, steps: int) -> float:
    """Seconds from the start of the trainer to its end, without validation."""
    return benchmark.start_seconds + tokens / benchmark.tokens_per_second + steps * benchmark.seconds_per_step


def peak_memory(benchmark: Benchmark, largest: int, longest_row: int = 0) -> int:
    """Bytes of a process at the peak, which the pass with the most tokens makes.

    Several ranks share the rows of a pass; `longest_row` is one rank's as a whole.
    """
    of_rank = max(longest_row, -(-largest // benchmark.ranks)) if benchmark.ranks > 1 else largest
    return round(benchmark.fixed_bytes + benchmark.bytes_per_token * of_rank)


def of_ranks(one: Benchmark, ranks: int, *, cards: bool) -> Benchmark:
    """What one process's speed lets expect of several.

    `cards`: of as many GPUs the sum; of the same processors no more.
    """
    return replace(one, ranks=ranks, tokens_per_second=one.tokens_per_second * (ranks if cards else 1))


def unpacked(tokens: int, longest_row: int, batch_size: int, benchmark: Benchmark) -> Workload:
    """The most that the work can be, where the rows themselves were not read.

    Nothing is shared, and the longest rows come together.
    """
    return Workload(tokens, max(longest_row, min(longest_row * batch_size, benchmark.tokens_at_once)))


def benchmark_path(cache: Path, base: str, hardware: str) -> Path:
    """The file that keeps the result for this base and hardware.

    The names are made safe for a file system.
    """
    whole = f"{base}--{hardware}"
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", whole)
    if len(safe) > LONGEST_NAME:  # what is cut off may be all that two differ in, such as the bits of the weights
        safe = f"{safe[: LONGEST_NAME - 17]}-{sha256(whole.encode()).hexdigest()[:16]}"
    return cache / "benchmarks" / f"{safe}.json"


def read_benchmark(path: Path) -> Benchmark | None:
    """The cached result; None when there is none or it is of another version."""
    try:
        kept = read_checked(path)
        return Benchmark(**kept) if isinstance(kept, dict) else None  # type: ignore[arg-type]  # of our own making
    except TypeError:
        return None


def write_benchmark(path: Path, benchmark: Benchmark) -> None:
    """Caches the result."""
    write_checked(path, benchmark.to_json())
