"""One job: its curves while they grow, what happened, what can be done."""

import json
from collections.abc import Iterator

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from tunesmith.api.views.jobs import event_json
from tunesmith.store import JobRow, ScopedStore
from tunesmith.store.queue.jobs import no_job
from tunesmith.web.access.api_call import Refused
from tunesmith.web.access.visit import Visit, signed_in, web_of
from tunesmith.web.live.feed import EVENTS
from tunesmith.web.render import render
from tunesmith.web.views.job_line import title_of
from tunesmith.web.views.job_page import curve_label, job_page

PARTS = ("head", "events", "checkpoints", "table")
ACTIONS = ("cancel", "pause", "resume")
LOGGED = 1000  # events read at a time for the file


async def job(request: Request) -> Response:
    """The page."""
    return await _shown(request, "job.html")


async def part(request: Request) -> Response:
    """One part of the page, once its stream told that it is old."""
    name = request.path_params["part"]
    if name not in PARTS:
        raise no_job(name)
    return await _shown(request, f"parts/job_{name}.html")


async def act(request: Request) -> Response:
    """Cancels, pauses or resumes the job, and shows it again."""
    visit, job_id, action = await signed_in(request), request.path_params["id"], request.path_params["action"]
    if action not in ACTIONS:
        raise no_job(job_id)
    try:
        await visit.api.post(f"/v1/fine_tuning/jobs/{job_id}/{action}")
    except Refused as refused:
        await _row(visit, job_id)
        return await _shown(request, "job.html", refused)
    return RedirectResponse(f"/ui/jobs/{job_id}", 303)


async def events(request: Request) -> Response:
    """A page of the job's events, with or without its steps."""
    visit = await signed_in(request)
    row = await _row(visit, request.path_params["id"])
    with_steps, after = request.query_params.get("steps") == "1", request.query_params.get("after")
    page = await run_in_threadpool(
        lambda: visit.store.progress.events(row.id, limit=EVENTS, after=after, with_steps=with_steps)
    )
    return render(
        request, "job_events.html", id=row.id, title=title_of(row), events=page, steps=with_steps, after=after
    )


async def log(request: Request) -> Response:
    """All events as the API shows them, oldest first, a line of JSON each."""
    visit = await signed_in(request)
    row = await _row(visit, request.path_params["id"])
    headers = {"content-disposition": f'attachment; filename="{row.id}-events.jsonl"'}
    return StreamingResponse(_lines(visit.store, row.id), media_type="application/jsonl", headers=headers)


async def _shown(request: Request, template: str, refused: Refused | None = None) -> Response:
    visit = await signed_in(request)
    row = await _row(visit, request.path_params["id"])
    page = await run_in_threadpool(job_page, visit.store, web_of(request).feeds, row)
    problem, status = (None, 200) if refused is None else (refused.message, refused.status)
    return render(request, template, status=status, job=page, label=curve_label, problem=problem)


async def _row(visit: Visit, job_id: str) -> JobRow:
    row = await run_in_threadpool(visit.store.jobs.get, job_id)
    if row is None:
        raise no_job(job_id)
    return row


def _lines(store: ScopedStore, job_id: str) -> Iterator[bytes]:
    place = 0
    while found := store.progress.log(job_id, place, LOGGED):
        place = found[-1][0]
        yield "".join(json.dumps(event_json(row), ensure_ascii=False) + "\n" for _, row in found).encode(
            "utf-8", "replace"
        )


ROUTES = [
    Route("/ui/jobs/{id}", job),
    Route("/ui/jobs/{id}/events", events),
    Route("/ui/jobs/{id}/events.jsonl", log),
    Route("/ui/jobs/{id}/parts/{part}", part),
    Route("/ui/jobs/{id}/{action}", act, methods=["POST"]),
]
