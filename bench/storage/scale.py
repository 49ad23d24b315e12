"""Whether a store with years of history still answers at once.

    python bench/storage/scale.py [--jobs 10000] [--events 1000000] [--files 100000] [--calls 500] [--directory DIR]

Fills a SQLite and a PostgreSQL database (one of our own, unless --database-url names an empty one), then sends both the
requests of clients: through the store, and over HTTP to a server of its own. Prints milliseconds at the median and the
99th percentile, and how each query is answered; exits with 1 when a query reads a whole table or exceeds the limit.
"""

import argparse
import gc
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.http_load.load import Request, ask
from bench.http_load.server import server
from bench.storage.scale_cases import Case, cases
from bench.storage.scale_fill import Size, fill
from tests.databases import postgres_server
from tests.plans import explain, full_scans, selects

from tunesmith.settings import Settings
from tunesmith.store import Store, open_store

LIMIT_MS = 20.0
WARM_UP = 20


def main() -> None:
    """Fill, measure, print, and exit with 1 on a failure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--usage", type=int, default=100_000, help="rows of usage counters, over thirty days")
    parser.add_argument("--calls", type=int, default=500, help="of each kind, through the store and over HTTP")
    parser.add_argument("--database-url", help="an empty PostgreSQL database; it is written to")
    parser.add_argument("--directory", type=Path, help="where the data goes (default: the temporary directory)")
    parser.add_argument("--plans", action="store_true", help="print the plan of every query, not only the full scans")
    options = parser.parse_args()
    with ExitStack() as stack:
        settings = [*_databases(stack, options)]
        failures = [failure for one in settings for failure in measure(one, options)]
    for failure in failures:
        print(failure)
    raise SystemExit(bool(failures))


def _databases(stack: ExitStack, options: argparse.Namespace) -> Iterator[Settings]:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.directory)))
    yield Settings(data_dir=folder / "sqlite")
    url = options.database_url
    if url is None:
        url = f"postgresql://postgres@/postgres?host={stack.enter_context(postgres_server())}"
    yield Settings(data_dir=folder / "postgresql", database_url=url)


def measure(settings: Settings, options: argparse.Namespace) -> list[str]:
    """What is wrong, in sentences."""
    name = "PostgreSQL" if settings.database_url else "SQLite"
    started = time.perf_counter()
    store = open_store(settings)
    filled = fill(store, Size(options.jobs, options.events, options.files, options.usage))
    print(f"{name}: filled in {time.perf_counter() - started:.0f} s")
    asked = cases(filled)
    raw_key, _ = store.keys.create("bench", project=filled.project)
    gc.collect()
    gc.freeze()  # as the server does once it has started
    direct = {case.name: through_store(store, case, options.calls) for case in asked}
    scans = look_at_plans(store, asked, show=options.plans)
    with server(settings) as (address, seconds):
        print(f"{name}: the server was ready after {seconds:.1f} s")
        wired = {case.name: over_http(address, raw_key, case, options.calls) for case in asked if case.path}
    store.close()
    print_table(name, asked, direct, wired)
    slow = [
        f"{name}: {case.name} took {taken[case.name][1]:.1f} ms at the 99th percentile; the limit is {LIMIT_MS:.0f}"
        for case in asked
        for taken in (direct, wired)
        if case.limited and case.name in taken and taken[case.name][1] > LIMIT_MS
    ]
    return [*(f"{name}: {scan}" for scan in scans), *slow]


def through_store(store: Store, case: Case, calls: int) -> tuple[float, float]:
    """Median and 99th percentile, in milliseconds."""
    seconds = []
    for key in _keys(case, calls):
        began = time.perf_counter()
        case.call(store, key)
        seconds.append(time.perf_counter() - began)
    return _percentiles(seconds[WARM_UP:])


def over_http(address: tuple[str, int], raw_key: str, case: Case, calls: int) -> tuple[float, float]:
    path = case.path
    if path is None:
        raise ValueError(f"{case.name} is no call over HTTP.")
    requests = [Request("GET", path(key), raw_key) for key in _keys(case, calls)]
    return _percentiles(ask(address, requests).answers[WARM_UP:])


def _keys(case: Case, calls: int) -> Sequence[str]:
    """Ones drawn from what the case can ask for, the same for every database and run."""
    return random.Random(11).choices(case.keys, k=calls + WARM_UP)


def _percentiles(seconds: Sequence[float]) -> tuple[float, float]:
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return 1000 * cuts[49], 1000 * cuts[98]


def look_at_plans(store: Store, asked: Sequence[Case], *, show: bool) -> list[str]:
    """The full scans of large tables, as sentences."""
    found = []
    for case in asked:
        with selects(store) as heard:
            case.call(store, case.keys[0])
        for statement in heard.statements:
            lines = explain(store, statement)
            if show:
                print(f"  {case.name}: {'; '.join(lines)}")
            found += [f"{case.name}: {line}" for line in full_scans(lines) if not case.whole]
    return found


def print_table(
    name: str,
    asked: Sequence[Case],
    direct: dict[str, tuple[float, float]],
    wired: dict[str, tuple[float, float]],
) -> None:
    table = Table("call", "store p50", "store p99", "HTTP p50", "HTTP p99", title=f"{name}, milliseconds")
    for case in asked:
        found = (*direct[case.name], *wired.get(case.name, ()))
        table.add_row(case.name, *(f"{milliseconds:.2f}" for milliseconds in found))
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
