"""How long a worker needs to claim a job where very many wait: `python -m bench.storage.claims`.

    python -m bench.storage.claims [--jobs 100000] [--projects 300] [--claims 200]

Half of the jobs are one project's. On SQLite and on a PostgreSQL of our own: prints milliseconds of a claim, whether
the projects took turns, and how the query is answered; exits with 1 where it reads a whole table, or where a claim
takes more than 50 ms at the median.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.storage.scale_fill import insert_rows, job_rows
from sqlalchemy import text
from tests.databases import postgres_server
from tests.plans import Statement, explain, full_scans

from tunesmith.settings import Settings
from tunesmith.store import JobStatus, Store, open_store
from tunesmith.store.queue.turns import next_in_turn
from tunesmith.store.schema.tables import jobs

LIMIT_MS = 50.0
STATUSES = (JobStatus.RUNNING, JobStatus.QUEUED, JobStatus.VALIDATING)


def main() -> None:
    """Fill, claim, print, and exit with 1 on a failure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--projects", type=int, default=300)
    parser.add_argument("--claims", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, postgres_server() as home:
        url = f"postgresql://postgres@/postgres?host={home}"
        settings = [
            Settings(data_dir=Path(folder) / "sqlite"),
            Settings(data_dir=Path(folder) / "pg", database_url=url),
        ]
        failed = [measure(one, options) for one in settings]
    raise SystemExit(any(failed))


def measure(settings: Settings, options: argparse.Namespace) -> bool:
    """True where it is too slow."""
    store = open_store(settings)
    _fill(store, options.jobs, options.projects)
    times, owners = [], []
    for number in range(options.claims):
        begun = time.perf_counter()
        claimed = store.queue.claim(f"worker {number}", STATUSES, 3600)
        times.append(1000 * (time.perf_counter() - begun))
        owners.append("" if claimed is None else claimed[0].project)
    scans = full_scans(_plan(store))
    store.close()
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    name = "PostgreSQL" if settings.database_url else "SQLite"
    print(
        f"{name}: {options.jobs:,} jobs of {options.projects} projects wait; a claim takes {cuts[49]:.1f} ms (median), "
        f"{cuts[98]:.1f} ms (99 %), {max(times):.1f} ms at most; the first {len(owners)} went to {len({*owners})} "
        f"projects; {scans or 'by index'}",
        flush=True,
    )
    return cuts[49] > LIMIT_MS or bool(scans)


def _fill(store: Store, count: int, projects: int) -> None:
    draw = random.Random(7)
    names = [f"project {number:03}" for number in range(projects)]
    owners = [names[0] if draw.random() < 0.5 else draw.choice(names) for _ in range(count)]
    ids = [f"ftjob-{number:024}" for number in range(count)]
    with store.database.write() as connection:
        insert_rows(connection, jobs, _waiting(job_rows(draw, owners, ids, ["file-a"], int(time.time()))))
        if not store.database.is_sqlite:
            connection.execute(text("ANALYZE jobs"))


def _waiting(rows: Iterator[dict[str, object]]) -> Iterator[dict[str, object]]:
    for row in rows:
        yield {**row, "status": "queued", "finished_at": None, "fine_tuned_model": None, "error": None, "attempt": 0}


def _plan(store: Store) -> list[str]:
    with store.database.read() as connection:
        query = next_in_turn(STATUSES, time.time()).compile(connection, compile_kwargs={"literal_binds": True})
    return explain(store, Statement(str(query), ()))


if __name__ == "__main__":
    main()
