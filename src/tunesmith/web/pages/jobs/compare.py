"""Curves of several jobs over one another."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tunesmith.store import JobRow, ScopedStore
from tunesmith.web.access.visit import signed_in, web_of
from tunesmith.web.live.feed import Feeds
from tunesmith.web.render import render
from tunesmith.web.views.job_line import JobLine, job_line
from tunesmith.web.views.job_page import spelled

MOST = 5  # more lines cannot be told apart
SHOWN = ("n_epochs", "batch_size", "learning_rate_multiplier")


@dataclass(frozen=True, slots=True)
class Compared:
    """A job of the comparison with its numbers."""

    line: JobLine
    settings: Mapping[str, str]
    lowest_valid: float | None
    without: str  # the address of the others


async def compare(request: Request) -> Response:
    """The chosen jobs, five at most."""
    visit = await signed_in(request)
    rows = await run_in_threadpool(chosen, visit.store, request.query_params.getlist("job"))
    jobs = await run_in_threadpool(_compared, rows, web_of(request).feeds)
    asked = len(set(request.query_params.getlist("job")))
    return render(request, "compare.html", jobs=jobs, left_out=max(0, asked - len(rows)), most=MOST)


def chosen(store: ScopedStore, job_ids: Iterable[str]) -> list[JobRow]:
    """The jobs of these ids that there are, each once."""
    ids = list(dict.fromkeys(job_ids))[:MOST]
    found = store.jobs.among(ids)
    return [found[job_id] for job_id in ids if job_id in found]


def _compared(rows: list[JobRow], feeds: Feeds) -> list[Compared]:
    return [_one(row, feeds, [other.id for other in rows if other.id != row.id]) for row in rows]


def _one(row: JobRow, feeds: Feeds, others: list[str]) -> Compared:
    feed = feeds.fresh(row.id)
    points = feed.points()
    measured = points.get("full_valid_loss") or points.get("valid_loss") or []
    return Compared(
        line=job_line(row, feed.newest()),
        settings={name: spelled(row.hyperparameters.get(name)) for name in SHOWN},
        lowest_valid=min((value for _, value in measured), default=None),
        without="/ui/jobs/compare" + ("?" + urlencode({"job": others}, doseq=True) if others else ""),
    )


ROUTES = [Route("/ui/jobs/compare", compare)]
