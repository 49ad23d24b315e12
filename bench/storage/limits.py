"""What a limit that several servers share costs a request: `python -m bench.storage.limits`.

    python -m bench.storage.limits [--requests 2000] [--rounds 3] [--threads 1 4 16]

On a PostgreSQL of our own: milliseconds (median) and requests a second of an admission with one bucket (an upload),
with two buckets and a number of answers at a time (a chat), all of one project, and beside them of the look-up of the
key that each request costs anyway. In turn; medians of the rounds.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.databases import postgres_server

from tunesmith.settings import Settings
from tunesmith.store import Store, open_store
from tunesmith.store.servers.limits import Charge

PLENTY = 10_000_000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 4, 16])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, postgres_server() as home:
        url = f"postgresql://postgres@/postgres?host={home}"
        store = open_store(Settings(data_dir=Path(folder) / "data", database_url=url))
        for threads in options.threads:
            _print(threads, _ways(store), options)
        store.close()


def _ways(store: Store) -> dict[str, Callable[[], object]]:
    limits, (raw, _) = store.limits, store.keys.create("bench")
    assert limits is not None
    upload = [Charge("uploads", PLENTY, 1.0)]
    chat = [Charge("requests", PLENTY, 1.0), Charge("tokens", PLENTY, 20.0)]
    return {
        "key": lambda: store.keys.verify(raw),
        "upload": lambda: limits.admit("default", upload),
        "chat": lambda: limits.admit("default", chat, server="bench", most=PLENTY),
    }


def _print(threads: int, ways: dict[str, Callable[[], object]], options: argparse.Namespace) -> None:
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, way in ways.items():
            found[name].append(_measured(way, options.requests, threads))
    for name, rounds in found.items():
        rate, middle = (statistics.median(one[place] for one in rounds) for place in (0, 1))
        print(f"{threads:3} threads  {name:7} {rate:8,.0f} a second  {middle:6.2f} ms at the median")


def _measured(way: Callable[[], object], requests: int, threads: int) -> tuple[float, float]:
    def timed(_: int) -> float:
        begun = time.perf_counter()
        way()
        return 1000 * (time.perf_counter() - begun)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(timed, range(threads * 2)))  # connections
        begun = time.perf_counter()
        times = list(pool.map(timed, range(requests)))
        return requests / (time.perf_counter() - begun), statistics.median(times)


if __name__ == "__main__":
    main()
