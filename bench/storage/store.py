"""What a durable write costs.

    python bench/storage/store.py [--database-url URL] [--directory DIR]

Compares SQLite with synchronous=FULL (ours: an acknowledged write survives a power cut) and NORMAL (survives only a
kill) on the same disk, and PostgreSQL when a URL is given. Prints operations per second, the median of 5 rounds.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import event

from tunesmith.settings import Settings
from tunesmith.store import JobStatus, Lease, NewEvent, NewJob, Store, open_store

ROUNDS = 5
NUMBERS = {"n_epochs": 3, "batch_size": 1, "learning_rate_multiplier": 2.0}


def main() -> None:
    """Measure each database and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database-url", help="a PostgreSQL database to measure too; it is written to")
    parser.add_argument("--directory", type=Path, help="where the SQLite files go (default: the temporary directory)")
    options = parser.parse_args()
    found = {}
    for name in ("sqlite FULL", "sqlite NORMAL", *(["postgresql"] if options.database_url else [])):
        with tempfile.TemporaryDirectory(dir=options.directory) as directory:
            url = options.database_url if name == "postgresql" else None
            store = open_store(Settings(data_dir=Path(directory), database_url=url))
            if name == "sqlite NORMAL":
                _relax(store)
            found[name] = measure(store)
            store.close()
    _print_table(found)


def _relax(store: Store) -> None:
    store.database.engine.dispose()

    @event.listens_for(store.database.engine, "connect")
    def normal(connection: object, _entry: object) -> None:
        connection.execute("PRAGMA synchronous=NORMAL")  # type: ignore[attr-defined]


def measure(store: Store) -> dict[str, float]:
    """Operations per second of what the API and a worker do most."""
    lease = _running(store)
    raw_key, _ = store.keys.create("bench")
    return {
        "key verified": _rate(lambda: store.keys.verify(raw_key), 300),
        "job created": _rate(lambda: _create(store), 50),
        "lease renewed": _rate(lambda: store.queue.renew(lease, 3600), 100),
        "1 event appended": _rate(lambda: store.queue.append(lease, [NewEvent("Step 1/300")]), 100),
        "20 events appended": _rate(lambda: store.queue.append(lease, [NewEvent("Step 1/300")] * 20), 50),
        "20 events listed": _rate(lambda: store.jobs.events(lease.job_id), 200),
        "1 MiB file stored": _rate(lambda: store.blobs.write([b"x" * 2**20]), 20),
    }


def _rate(work: Callable[[], object], times: int) -> float:
    rounds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(times):
            work()
        rounds.append(times / (time.perf_counter() - began))
    return statistics.median(rounds)


def _print_table(found: dict[str, dict[str, float]]) -> None:
    names = list(found)
    print(f"{'operations per second':<21}", *(f"{name:>14}" for name in names))
    for operation in found[names[0]]:
        print(f"{operation:<21}", *(f"{found[name][operation]:>14,.0f}" for name in names))


def _create(store: Store) -> None:
    store.jobs.create(
        NewJob(
            model="base",
            base_model="base",
            training_file="file-x",
            organization="bench",
            seed=1,
            hyperparameters=dict(NUMBERS),
            method={"type": "supervised"},
        )
    )


def _running(store: Store) -> Lease:
    _create(store)
    claimed = store.queue.claim("bench", [JobStatus.VALIDATING], 3600)
    if claimed is None:
        raise SystemExit("Another worker took the job: use a database that nothing else uses.")
    return claimed[1]


if __name__ == "__main__":
    main()
