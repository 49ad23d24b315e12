"""How long jobs wait for a GPU in a team's day: `python -m bench.cluster.waiting`.

    python -m bench.cluster.waiting [--jobs 1000] [--gpus 4 8 16 64] [--share 0.4 0.05] [--price 2.5] [--seed 7]

A simulation, from a seed: the jobs of one day arrive as at a company (most of them by day; one project submits a third
of them at ten o'clock), each takes one GPU for as long as its tokens take. Which job is next is the store's own answer
(`store.queue.claim` on SQLite); beside it stands the plain queue, first come, first served. The clock, the jobs and
the GPUs' speed are made up: `--share` is the part of a GPU's peak that training reaches.
"""

import argparse
import heapq
import math
import random
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.storage.scale_fill import insert_rows, job_rows

from tunesmith.settings import Settings
from tunesmith.store import JobStatus, Store, open_store
from tunesmith.store.schema.tables import jobs as jobs_table

HOUR = 3600.0
PEAK = 990e12  # floating-point operations a second: an H100's bfloat16 products, dense
BASES = ((0.6e9, 0.35), (1.7e9, 0.2), (4e9, 0.2), (8e9, 0.25))  # parameters, and how often they are tuned
TOKENS, SPREAD = 2e6, 1.5  # of a job over all epochs: median and sigma of a log-normal distribution
OPERATIONS = 6  # a parameter and token: forward 2, backward 2 (frozen weights), forward again 2 (activations dropped)
START = 60.0  # seconds until a base is on the GPU
PROJECTS = 12
BURST = "project 00"
NEVER = 10 * 365 * 24 * HOUR


@dataclass(frozen=True, slots=True, order=True)
class Arrival:
    """A job that arrives, in seconds after midnight."""

    at: float
    id: str
    project: str = field(compare=False)
    tokens: float = field(compare=False)
    parameters: float = field(compare=False)

    def seconds(self, share: float) -> float:
        """How long it takes one GPU."""
        return START + OPERATIONS * self.parameters * self.tokens / (share * PEAK)


@dataclass(frozen=True, slots=True)
class Day:
    """What came of one day: seconds that each job waited, and seconds until the last has ended."""

    waits: dict[str, float]
    busy: float
    end: float


def main() -> None:
    """Simulate each number of GPUs and each share of the peak; print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--gpus", type=int, nargs="+", default=[4, 8, 16, 64])
    parser.add_argument("--share", type=float, nargs="+", default=[0.4, 0.05])
    parser.add_argument("--price", type=float, default=2.5, help="dollars for a GPU and an hour")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    arrivals = day_of(options.jobs, random.Random(options.seed))
    tokens = sum(arrival.tokens for arrival in arrivals)
    print(f"{len(arrivals):,} jobs of {PROJECTS} projects, {tokens / 1e9:.1f} billion tokens, seed {options.seed}\n")
    print("| share of peak | GPUs | queue | busy | $ a million tokens | wait, median | 95 % | others, 95 % | most |")
    print("| ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for share in options.share:
        for gpus in options.gpus:
            for name, run in (("in turns", in_turns), ("first come", first_come)):
                line = told(arrivals, run(arrivals, gpus, share), gpus, options.price)
                print(f"| {share:.0%} | {gpus} | {name} | {line} |", flush=True)


def day_of(count: int, draw: random.Random) -> list[Arrival]:
    """The jobs of a day, in the order of their arrival."""
    sizes, weights = zip(*BASES, strict=True)
    found = []
    for number in range(count):
        in_burst = number < count // 3
        project = BURST if in_burst else f"project {min(int(draw.expovariate(0.4)) + 1, PROJECTS - 1):02}"
        at = 10 * HOUR + number if in_burst else min(max(draw.gauss(14, 4), 0), 24) * HOUR
        tokens = TOKENS * math.exp(draw.gauss(0, SPREAD))
        found.append(Arrival(at, f"ftjob-{number:024}", project, tokens, draw.choices(sizes, weights)[0]))
    return sorted(found)


def in_turns(arrivals: Sequence[Arrival], gpus: int, share: float) -> Day:
    """The day under the service's own queue: a store on SQLite says who is next."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Settings(data_dir=Path(folder)))
        by_id = {arrival.id: arrival for arrival in arrivals}

        def claim() -> Arrival | None:
            claimed = store.queue.claim("simulated", (JobStatus.QUEUED,), NEVER)
            if claimed is None:
                return None
            store.queue.fail(claimed[1], code="simulated", message="The simulated job ends here, as it is started.")
            return by_id[claimed[0].id]

        try:
            return simulate(arrivals, gpus, share, lambda arrival: _submit(store, arrival), claim)
        finally:
            store.close()


def first_come(arrivals: Sequence[Arrival], gpus: int, share: float) -> Day:
    """The day under a plain queue."""
    waiting: deque[Arrival] = deque()
    return simulate(arrivals, gpus, share, waiting.append, lambda: waiting.popleft() if waiting else None)


def simulate(
    arrivals: Sequence[Arrival],
    gpus: int,
    share: float,
    submit: Callable[[Arrival], None],
    claim: Callable[[], Arrival | None],
) -> Day:
    """Lets the jobs arrive and the GPUs take them; a job that has begun is never put off."""
    coming, ends = deque(arrivals), list[float]()
    waits, busy, end = dict[str, float](), 0.0, 0.0
    while coming or ends:
        now = min(coming[0].at if coming else math.inf, ends[0] if ends else math.inf)
        while ends and ends[0] <= now:
            heapq.heappop(ends)
        while coming and coming[0].at <= now:
            submit(coming.popleft())
        while len(ends) < gpus and (job := claim()) is not None:
            waits[job.id] = now - job.at
            busy += job.seconds(share)
            heapq.heappush(ends, now + job.seconds(share))
        end = max(end, now)
    return Day(waits, busy, end)


def told(arrivals: Sequence[Arrival], day: Day, gpus: int, price: float) -> str:
    """The cells of a day: how busy, what it costs, how long jobs waited."""
    assert set(day.waits) == {arrival.id for arrival in arrivals}, "a job was lost"
    length = max(day.end, 24 * HOUR)
    cost = gpus * length / HOUR * price / (sum(arrival.tokens for arrival in arrivals) / 1e6)
    others = [day.waits[arrival.id] for arrival in arrivals if arrival.project != BURST]
    waits = [*day.waits.values()]
    cells = (statistics.median(waits), _late(waits), _late(others), max(waits))
    return " | ".join([f"{day.busy / (gpus * length):.0%}", f"{cost:.3f}", *map(_span, cells)])


def _submit(store: Store, arrival: Arrival) -> None:
    [row] = job_rows(random.Random(0), [arrival.project], [arrival.id], ["file-a"], int(time.time()))
    ended = ("finished_at", "fine_tuned_model", "error")
    with store.database.write() as connection:
        values = {**row, **dict.fromkeys(ended), "status": "queued", "attempt": 0, "planned_model": arrival.id}
        insert_rows(connection, jobs_table, iter([values]))


def _late(waits: Sequence[float]) -> float:
    return statistics.quantiles(waits, n=20, method="inclusive")[18]


def _span(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * HOUR else f"{seconds / HOUR:.1f} h"


if __name__ == "__main__":
    main()
