"""The slowest requests that any key can make, and what others feel meanwhile: `python -m bench.http_load.worst`.

    python -m bench.http_load.worst [--only WORD ...] [--seconds 8]

A real server on a scratch folder is sent one hostile request after another, each by a read-only key, while another
connection asks /healthz every 10 ms. Prints for each the status, its own seconds, and the median, the 99th percentile
and the longest of the others' milliseconds, slowest first. "idle" is how the machine does with nothing hostile. A
request that is given up is one that the model works on; the server ends it when its connection closes.
"""

import argparse
import http.client
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.http_load.hostile import BASE, CHAT, Hostile, hostile
from bench.http_load.server import server
from rich.console import Console
from rich.table import Table

from tunesmith.settings import Settings
from tunesmith.store import open_store

Address = tuple[str, int]
LIMIT_MS, LONG_SECONDS = 100, 5
IDLE = Hostile("idle", "")


@dataclass(frozen=True, slots=True)
class Felt:
    name: str
    status: str
    seconds: float
    others: list[float]  # seconds of each /healthz meanwhile

    @property
    def percentiles(self) -> tuple[float, float, float]:
        """Milliseconds at the median and the 99th percentile, and the longest."""
        cuts = statistics.quantiles([*self.others, *self.others], n=100, method="inclusive")
        return 1000 * cuts[49], 1000 * cuts[98], 1000 * max(self.others)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[""], help="requests whose name has one of these words")
    parser.add_argument("--seconds", type=float, default=8.0, help="after which a request is given up")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder))
        store = open_store(settings)
        key = store.keys.create("hostile", role="read-only")[0]
        store.close()
        with server(settings) as (address, _):
            warm = {"model": BASE, "max_tokens": 1, "messages": [{"role": "user", "content": "a"}]}
            _send(address, key, Hostile("warm", CHAT, json.dumps(warm).encode()), 400)
            felt = [_felt(address, key, IDLE, 2.0)]
            felt += [
                _felt(address, key, one, options.seconds)
                for one in hostile()
                if any(word in one.name for word in options.only)
            ]
            felt.append(_felt(address, key, Hostile("idle again", ""), 2.0))
    _print(felt)


def _print(felt: list[Felt]) -> None:
    table = Table("request", "status", "s", "others p50 ms", "p99 ms", "longest ms")
    for one in sorted(felt, key=lambda one: -one.percentiles[1]):
        table.add_row(one.name, one.status, f"{one.seconds:.2f}", *(f"{ms:.0f}" for ms in one.percentiles))
    Console(width=120).print(table)
    slow = [one.name for one in felt if one.percentiles[1] >= LIMIT_MS]
    late = [f"{one.name} ({one.status})" for one in felt if one.seconds > LONG_SECONDS]
    print(f"{len(felt) - 2} requests; /healthz took {LIMIT_MS} ms or more (p99) beside: {', '.join(slow) or 'none'}")
    print(f"Longer than {LONG_SECONDS} s: {', '.join(late) or 'none'}")


def _felt(address: Address, key: str, one: Hostile, seconds: float) -> Felt:
    with _others(address) as others:
        begun = time.perf_counter()
        if one.path:
            status = _send(address, key, one, seconds)
        else:
            time.sleep(seconds)
            status = ""
        took = time.perf_counter() - begun
    print(one.name, status, round(took, 2), flush=True)
    return Felt(one.name, status, took, others)


def _send(address: Address, key: str, one: Hostile, seconds: float) -> str:
    """The answer's status, or why there was none."""
    connection = http.client.HTTPConnection(*address, timeout=seconds)
    headers = {"authorization": f"Bearer {key}", "content-type": one.content_type, **one.headers}
    try:
        connection.request(one.method, one.path, one.body or None, headers)
        return str(connection.getresponse().status)
    except TimeoutError:
        return "given up"
    except (OSError, http.client.HTTPException) as error:  # refused and closed before all of it was sent
        return type(error).__name__
    finally:
        connection.close()


@contextmanager
def _others(address: Address) -> Iterator[list[float]]:
    """The seconds of each /healthz while the block runs."""
    times: list[float] = []
    stop = threading.Event()

    def ask() -> None:
        connection = http.client.HTTPConnection(*address, timeout=120)
        while not stop.wait(0.01):
            begun = time.perf_counter()
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            times.append(time.perf_counter() - begun)

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.1)
    try:
        yield times
    finally:
        stop.set()
        thread.join()


if __name__ == "__main__":
    main()
