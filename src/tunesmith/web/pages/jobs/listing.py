"""The list of jobs, by their state."""

from collections.abc import Mapping

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tunesmith.store import ACTIVE, JobRow, JobStatus, Page, ScopedStore
from tunesmith.web.access.visit import signed_in
from tunesmith.web.live.part import changed_part
from tunesmith.web.render import render
from tunesmith.web.views.job_line import job_line

SHOWN = 25
Wanted = tuple[tuple[JobStatus, ...], bool | None]  # states, and whether paused
FILTERS: Mapping[str, Wanted] = {
    "running": ((JobStatus.RUNNING,), None),
    "queued": ((JobStatus.VALIDATING, JobStatus.QUEUED), False),
    "paused": (ACTIVE, True),
    "succeeded": ((JobStatus.SUCCEEDED,), None),
    "failed": ((JobStatus.FAILED,), None),
    "cancelled": ((JobStatus.CANCELLED,), None),
}


async def jobs(request: Request) -> Response:
    """A page of the list, newest first."""
    return await _shown(request, "jobs.html")


async def live_part(request: Request) -> Response:
    """The rows of the same page, for its script."""
    return await changed_part(request, lambda asked: _shown(asked, "parts/jobs.html"))


async def _shown(request: Request, template: str) -> Response:
    visit = await signed_in(request)
    state, after = request.query_params.get("status", ""), request.query_params.get("after")
    page = await run_in_threadpool(_page, visit.store, FILTERS.get(state), after)
    first = await run_in_threadpool(visit.store.jobs.get, request.query_params.get("with", ""))
    return render(
        request,
        template,
        jobs=[job_line(row) for row in page.data],
        next=page.data[-1].id if page.has_more else None,
        filters=list(FILTERS),
        state=state if state in FILTERS else "",
        after=after,
        first=None if first is None else job_line(first),  # the job that others are to be compared with
    )


def _page(store: ScopedStore, wanted: Wanted | None, after: str | None) -> Page[JobRow]:
    if wanted is None:
        return store.jobs.page(limit=SHOWN, after=after)
    states, paused = wanted
    return store.progress.jobs(states, paused=paused, limit=SHOWN, after=after)


ROUTES = [Route("/ui/jobs", jobs), Route("/ui/jobs/rows", live_part)]
