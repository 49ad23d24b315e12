"""Fills a store quickly with the history of a busy service.

It writes rows straight into the store's tables, many at a time. Half of everything is in one project of ten, one job
has a hundredth of all events, a fifth of the files were deleted, and of the five models that every finished job made
three are kept. Files have rows, but no bytes.
"""

import itertools
import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Table, text

from tunesmith.store import Store
from tunesmith.store.ids import BASE62
from tunesmith.store.schema.tables import checkpoints, events, files, job_metadata, jobs, metadata, models, usage

PROJECTS = 10
LARGE = "default"  # the project that half of all objects belong to
DAY = 86_400
BASE = "smollm2-135m-instruct"
NUMBERS = json.dumps({"n_epochs": 3, "batch_size": 1, "learning_rate_multiplier": 2.0})
METHOD = json.dumps({"type": "supervised", "supervised": {"hyperparameters": json.loads(NUMBERS)}})
REPORT = json.dumps({"rows": 1200, "errors": [], "warnings": [{"code": "duplicate_row", "lines": list(range(20))}]})
METRICS = json.dumps({"step": 1, "train_loss": 0.512345678901234, "train_mean_token_accuracy": 0.87654321})

Row = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Size:
    """How many rows of each kind."""

    jobs: int
    events: int
    files: int
    usage: int


@dataclass(frozen=True, slots=True)
class Filled:
    """What can be asked for: ids of the large project, oldest first."""

    project: str
    small_project: str
    jobs: Sequence[str]
    files: Sequence[str]
    models: Sequence[str]
    long_job: str
    events: Sequence[str]  # of the long job
    now: int


def fill(store: Store, size: Size) -> Filled:
    """Fill an empty store; the same rows every time but for the projects' ids."""
    draw = random.Random(7)
    names = [LARGE, *(store.projects.create(f"team {number}").id for number in range(1, PROJECTS))]
    now = int(time.time()) // 60 * 60
    owners = [names[0] if draw.random() < 0.5 else draw.choice(names[1:]) for _ in range(size.jobs)]
    job_ids = [_id(draw, "ftjob-") for _ in range(size.jobs)]
    file_ids = [_id(draw, "file-") for _ in range(size.files)]
    with store.database.write() as connection:
        insert_rows(connection, files, _file_rows(draw, names, file_ids, now))
        insert_rows(connection, jobs, job_rows(draw, owners, job_ids, file_ids, now))
        insert_rows(connection, job_metadata, _pairs(owners, job_ids, now))
        insert_rows(connection, events, _event_rows(draw, job_ids, owners.index(LARGE), size.events, now))
        insert_rows(connection, models, _model_rows(owners, job_ids, now))
        insert_rows(connection, checkpoints, _checkpoint_rows(draw, job_ids, now))
        insert_rows(connection, usage, _usage_rows(draw, names, size.usage, now))
        if not store.database.is_sqlite:  # as PostgreSQL does by itself; SQLite has no statistics in a server's life
            connection.execute(text(f"ANALYZE {', '.join(metadata.tables)}"))  # not other schemas of a shared server
    mine = [number for number, owner in enumerate(owners) if owner == names[0]]
    return Filled(
        project=names[0],
        small_project=names[1],
        jobs=[job_ids[number] for number in mine],
        files=[row.id for row in reversed(store.of(names[0]).files.page(limit=min(size.files, 10_000)).data)],
        models=[_model_name(number, 5) for number in mine if _succeeded(number)],
        long_job=job_ids[mine[0]],
        events=[row.id for row in store.jobs.events(job_ids[mine[0]], limit=10_000).data],
        now=now,
    )


def insert_rows(connection: Connection, table: Table, rows: Iterator[dict[str, object]]) -> None:
    """Insert with the drivers' own means: COPY, or one prepared statement.

    Values are as the types of the tables' columns would make them.
    """
    first = next(rows)
    names = ", ".join(first)
    values: Iterator[Row] = (tuple(row.values()) for row in itertools.chain([first], rows))
    cursor = connection.connection.cursor()
    if connection.dialect.name == "sqlite":
        marks = ", ".join("?" * len(first))
        cursor.executemany(f"INSERT INTO {table.name} ({names}) VALUES ({marks})", values)  # type: ignore[arg-type]
        return
    with cursor.copy(f"COPY {table.name} ({names}) FROM STDIN") as copy:
        for row in values:
            copy.write_row(row)


def _file_rows(draw: random.Random, names: Sequence[str], ids: Sequence[str], now: int) -> Iterator[dict[str, object]]:
    """One in ten thousand is for assistants; the large project has none for vision."""
    for number, file_id in enumerate(ids):
        project = names[0] if draw.random() < 0.5 else draw.choice(names[1:])
        purpose = "fine-tune" if number % 10 else "fine-tune-results"
        yield {
            "id": file_id,
            "purpose": "assistants" if number % 10_000 == 17 else purpose,
            "filename": f"rows-{number}.jsonl",
            "bytes": 150_000 + number,
            "sha256": f"{number:064x}",
            "created_at": now - 365 * DAY + number,
            "expires_at": now + 30 * DAY if number % 7 == 0 else None,
            "status": "processed",
            "report": REPORT if number % 10 else None,
            "project": project,
            "deleted_at": now if draw.random() < 0.2 else None,
        }


def job_rows(
    draw: random.Random, owners: Sequence[str], ids: Sequence[str], file_ids: Sequence[str], now: int
) -> Iterator[dict[str, object]]:
    for number, job_id in enumerate(ids):
        done = _succeeded(number)
        yield {
            "id": job_id,
            "model": BASE,
            "created_at": now - 365 * DAY + number,
            "finished_at": now - 364 * DAY + number,
            "fine_tuned_model": _model_name(number, 5) if done else None,
            "organization_id": "org-personal",
            "result_files": json.dumps([draw.choice(file_ids)]),
            "status": "succeeded" if done else "failed",
            "training_file": draw.choice(file_ids),
            "hyperparameters": NUMBERS,
            "trained_tokens": 7176,
            "error": None if done else json.dumps({"code": "x", "param": None, "message": "It failed."}),
            "seed": number,
            "integrations": "[]",
            "metadata": json.dumps(_metadata(number)) if number % 20 else None,
            "method": METHOD,
            "project": owners[number],
            "base_model": BASE,
            "planned_model": _model_name(number, 5),
            "options": "{}",
            "attempt": 1,
            "paused": False,
            "last_step": 96,
        }


def _pairs(owners: Sequence[str], ids: Sequence[str], now: int) -> Iterator[dict[str, object]]:
    for number, job_id in enumerate(ids):
        if number % 20:
            for key, value in _metadata(number).items():
                place = {"project": owners[number], "created_at": now - 365 * DAY + number, "seq": number + 1}
                yield {"job_id": job_id, "key": key, "value": value, **place}


def _metadata(number: int) -> dict[str, str]:
    """A value that most jobs have, one that is unique, one of only the oldest."""
    found = {"team": "support" if number % 4 else "sales", "run": str(number)}
    return {**found, "pilot": "yes"} if number < 20 else found


def _event_rows(
    draw: random.Random, ids: Sequence[str], long_job: int, total: int, now: int
) -> Iterator[dict[str, object]]:
    """Events of jobs that ran at the same time: neighbouring rows differ in job."""
    long = max(total // 100, 1)
    for number in range(total):
        metrics = number % 10
        yield {
            "id": _id(draw, "ftevent-"),
            "job_id": ids[long_job if number < long else draw.randrange(len(ids))],
            "created_at": now - 365 * DAY + number,
            "level": "info",
            "message": f"Step {number}/{total}: training loss=0.51" if metrics else "Fine-tuning job started",
            "type": "metrics" if metrics else "message",
            "data": METRICS if metrics else "{}",
        }


def _model_rows(owners: Sequence[str], ids: Sequence[str], now: int) -> Iterator[dict[str, object]]:
    for number, job_id in enumerate(ids):
        for step in range(1, 6) if _succeeded(number) else ():
            yield {
                "name": _model_name(number, step),
                "base_model": BASE,
                "job_id": job_id,
                "step": step * 20,
                "adapter": f"jobs/{job_id}/output/checkpoints/step-{step * 20:06d}",
                "created_at": now - 364 * DAY + number,
                "owned_by": "personal",
                "project": owners[number],
                "deleted_at": now if step < 3 else None,
            }


def _checkpoint_rows(draw: random.Random, ids: Sequence[str], now: int) -> Iterator[dict[str, object]]:
    for number, job_id in enumerate(ids):
        for step in range(3, 6) if _succeeded(number) else ():
            yield {
                "id": _id(draw, "ftckpt_"),
                "job_id": job_id,
                "created_at": now - 364 * DAY + number,
                "model": _model_name(number, step),
                "step": step * 20,
                "metrics": METRICS,
            }


def _usage_rows(draw: random.Random, names: Sequence[str], total: int, now: int) -> Iterator[dict[str, object]]:
    """Thirty days, the minutes evenly."""
    for number in range(total):
        yield {
            "minute": now - (30 * DAY // 60 - number * (30 * DAY // 60) // total) * 60,
            "project": names[0] if draw.random() < 0.5 else draw.choice(names[1:]),
            "key_id": f"key_{number % 50}",
            "model": _model_name(number, 5),
            "requests": 3,
            "prompt_tokens": 900,
            "cached_tokens": 300,
            "completion_tokens": 120,
            "trained_tokens": 0,
        }


def _succeeded(number: int) -> bool:
    return number % 10 != 3


def _model_name(number: int, step: int) -> str:
    """The fifth is the model, the others are checkpoints."""
    return f"ft:{BASE}:personal:run-{number}:{number:08d}{'' if step == 5 else f':ckpt-step-{step * 20}'}"


def _id(draw: random.Random, prefix: str) -> str:
    return prefix + "".join(draw.choices(BASE62, k=24))
