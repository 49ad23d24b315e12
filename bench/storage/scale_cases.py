"""What clients ask a full store for.

Each case is asked with keys drawn at random: an id, a cursor, or nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.storage.scale_fill import DAY, Filled

from tunesmith.store import ACTIVE as UNFINISHED
from tunesmith.store import JobStatus, Store
from tunesmith.store.accounts.usage import UsageFilter

NOTHING = ("",)
ACTIVE = (JobStatus.QUEUED, JobStatus.VALIDATING)


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of request. `call` gets the whole store, as a process has it.

    `limited`: the size of the answer is bounded, by a page for example.
    """

    name: str
    keys: Sequence[str]
    call: Callable[[Store, str], object]
    path: Callable[[str], str] | None = None
    limited: bool = True
    whole: bool = False


def cases(filled: Filled) -> list[Case]:
    return [*_jobs(filled), *_inside_jobs(filled), *_pages(filled), *_files(filled), *_models(filled), *_others(filled)]


def _jobs(filled: Filled) -> list[Case]:
    project, jobs, url = filled.project, filled.jobs, "/v1/fine_tuning/jobs"
    filters: dict[str, dict[str, str]] = {
        "most have": {"team": "support"},
        "one has": {"run": "1"},
        "the oldest have": {"pilot": "yes"},
        "none has": {"team": "nobody"},
        "with a common and a rare pair": {"team": "support", "pilot": "yes"},
    }
    found = [
        Case("job", jobs, lambda store, key: store.of(project).jobs.get(key), lambda key: f"{url}/{key}"),
        Case("jobs", NOTHING, lambda store, _: store.of(project).jobs.page(), lambda _: url),
        Case(
            "100 jobs after any",
            jobs,
            lambda store, key: store.of(project).jobs.page(limit=100, after=key),
            lambda key: f"{url}?limit=100&after={key}",
        ),
        Case(
            "jobs without metadata",
            NOTHING,
            lambda store, _: store.of(project).jobs.page(without_metadata=True),
            lambda _: f"{url}?metadata=null",
        ),
    ]
    return found + [_filtered(project, f"jobs by metadata {name}", url, pairs) for name, pairs in filters.items()]


def _filtered(project: str, name: str, url: str, pairs: dict[str, str]) -> Case:
    query = "&".join(f"metadata[{key}]={value}" for key, value in pairs.items())
    return Case(name, NOTHING, lambda store, _: store.of(project).jobs.page(metadata=pairs), lambda _: f"{url}?{query}")


def _inside_jobs(filled: Filled) -> list[Case]:
    project, jobs, url, long_job = filled.project, filled.jobs, "/v1/fine_tuning/jobs", filled.long_job
    return [
        Case("events", jobs, lambda s, key: s.of(project).jobs.events(key), lambda key: f"{url}/{key}/events"),
        Case(
            "100 events of a long job",
            NOTHING,
            lambda store, _: store.of(project).jobs.events(long_job, limit=100),
            lambda _: f"{url}/{long_job}/events?limit=100",
        ),
        Case(
            "100 events after any of a long job",
            filled.events,
            lambda store, key: store.of(project).jobs.events(long_job, limit=100, after=key),
            lambda key: f"{url}/{long_job}/events?limit=100&after={key}",
        ),
        Case(
            "checkpoints",
            jobs,
            lambda store, key: store.of(project).jobs.checkpoints(key),
            lambda key: f"{url}/{key}/checkpoints",
        ),
    ]


def _pages(filled: Filled) -> list[Case]:
    """What the dashboard asks beside the API."""
    project, long_job = filled.project, filled.long_job
    return [
        # Of an index of unfinished jobs, which are few.
        Case("unfinished jobs", NOTHING, lambda s, _: s.of(project).progress.jobs(UNFINISHED), whole=True),
        Case("paused jobs", NOTHING, lambda s, _: s.of(project).progress.jobs(UNFINISHED, paused=True), whole=True),
        Case("failed jobs", NOTHING, lambda s, _: s.of(project).progress.jobs((JobStatus.FAILED,))),
        Case("what is new of a long job", NOTHING, lambda s, _: s.progress.after(long_job, 500, 100)),
        Case("the newest step of a long job", NOTHING, lambda s, _: s.progress.newest_step(long_job)),
        Case("long job: events but its steps", NOTHING, lambda s, _: s.of(project).progress.events(long_job, limit=50)),
        Case("50 events by their places", NOTHING, lambda s, _: s.progress.events_at(long_job, range(500, 550))),
        Case("100 lines of a long job's log", NOTHING, lambda s, _: s.of(project).progress.log(long_job, 500, 100)),
    ]


def _files(filled: Filled) -> list[Case]:
    project, files, url = filled.project, filled.files, "/v1/files"
    found = [Case("file", files, lambda s, key: s.of(project).files.get(key), lambda key: f"{url}/{key}")]
    for order in ("desc", "asc"):
        found += [
            Case(
                f"100 files, {order}",
                NOTHING,
                lambda store, _, order=order: store.of(project).files.page(limit=100, order=order),  # type: ignore[misc]
                lambda _, order=order: f"{url}?limit=100&order={order}",  # type: ignore[misc]
            ),
            Case(
                f"100 files after any, {order}",
                files,
                lambda store, key, order=order: store.of(project).files.page(limit=100, after=key, order=order),  # type: ignore[misc]
                lambda key, order=order: f"{url}?limit=100&after={key}&order={order}",  # type: ignore[misc]
            ),
        ]
    for purpose, name in (("fine-tune-results", "a tenth has"), ("assistants", "few have"), ("vision", "none has")):
        found.append(
            Case(
                f"100 files of a purpose that {name}",
                NOTHING,
                lambda store, _, purpose=purpose: store.of(project).files.page(limit=100, purpose=purpose),  # type: ignore[misc]
                lambda _, purpose=purpose: f"{url}?limit=100&purpose={purpose}",  # type: ignore[misc]
            )
        )
    whole = Case("10,000 files", NOTHING, lambda s, _: s.of(project).files.page(), lambda _: url, limited=False)
    return [*found, whole]


def _models(filled: Filled) -> list[Case]:
    project, small = filled.project, filled.small_project
    return [
        Case("model", filled.models, lambda s, key: s.of(project).models.get(key), lambda key: f"/v1/models/{key}"),
        Case(
            f"models, {len(filled.models) * 3:,} names",
            NOTHING,
            lambda store, _: store.of(project).models.all(),
            lambda _: "/v1/models",
            limited=False,
        ),
        Case("a page of models", filled.models, lambda store, key: store.of(project).models.page(after=key)),
        Case("models of a small project", NOTHING, lambda store, _: store.of(small).models.all()),
    ]


def _others(filled: Filled) -> list[Case]:
    now, small, url = filled.now, filled.small_project, "/v1/organization/usage/completions"
    day, week = now - DAY, now // DAY * DAY - 6 * DAY
    return [
        Case(
            "usage, 24 hours",
            NOTHING,
            lambda store, _: store.usage.sums(day, now, 3600),
            lambda _: f"{url}?start_time={day}&bucket_width=1h",
        ),
        Case(
            "usage, 7 days of a project by model",
            NOTHING,
            lambda store, _: store.usage.sums(week, now, DAY, where=UsageFilter(projects=[small]), group_by=["model"]),
            lambda _: f"{url}?start_time={week}&project_ids={small}&group_by=model",
            limited=False,  # a result for each day and model, 1,300 here
        ),
        Case("worker asks for a job", NOTHING, lambda store, _: store.queue.claim("bench", ACTIVE, 30), whole=True),
        Case("files to check at the start", NOTHING, lambda store, _: store.files.unchecked(), whole=True),
        Case("a sweep for expired files", NOTHING, lambda store, _: store.files.expire()),
        Case("healthz", NOTHING, lambda store, _: store.jobs.page(limit=1), lambda _: "/healthz", whole=True),
    ]
