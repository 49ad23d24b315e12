"""Verdicts of jobs: which there are, and one with all that it rests on."""

from typing import cast

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tunesmith.jsonvalue import JsonObject
from tunesmith.store import JobRow, ScopedStore
from tunesmith.web.access.visit import signed_in
from tunesmith.web.render import render
from tunesmith.web.views.evaluations.flips import KINDS, Flips, flips
from tunesmith.web.views.evaluations.verdict import NoEvaluation, Verdict, read_verdict

LISTED = 20
MOST_BYTES = 64 * 1024 * 1024  # of a file that a page reads


async def evaluations(request: Request) -> Response:
    """The newest verdicts and the newest evals."""
    visit = await signed_in(request)
    after = request.query_params.get("after")
    page = await run_in_threadpool(lambda: visit.store.jobs.page(limit=LISTED, after=after, evaluated=True))
    evals = await visit.api.get("/v1/evals", limit=LISTED, order="desc")
    return render(
        request,
        "evaluations/list.html",
        verdicts=[(job, evaluation_of(job)) for job in page.data],
        after=page.data[-1].id if page.has_more else None,
        first=after is None,
        evals=evals["data"],
    )


async def verdict(request: Request) -> Response:
    """The verdict of one job, from its file."""
    visit = await signed_in(request)
    job = await visit.api.get(f"/v1/fine_tuning/jobs/{request.path_params['job_id']}")
    shown = cast("JsonObject | None", cast(JsonObject, job["tunesmith"]).get("evaluation"))
    found, fault = (None, "") if shown is None else await run_in_threadpool(_read, visit.store, str(shown["file"]))
    if found is None:
        return render(request, "evaluations/none.html", job=job, shown=shown, fault=fault)
    query = request.query_params
    page = int(query["page"]) if query.get("page", "").isdecimal() and len(query["page"]) < 7 else 1
    pairs = await run_in_threadpool(_flips, found, query.get("criterion"), query.get("kind"), page)
    part = request.headers.get("hx-target") == "flips"
    template = "evaluations/flips.html" if part else "evaluations/verdict.html"
    return render(request, template, job=job, found=found, flips=pairs, kinds=KINDS, shown=shown)


def evaluation_of(job: JobRow) -> JsonObject:
    """What a job shows of its evaluation."""
    return cast(JsonObject, job.options["evaluation"])


def _read(store: ScopedStore, file_id: str) -> tuple[Verdict | None, str]:
    """The evaluation of a file, or why there is none."""
    row = store.files.get(file_id)
    if row is None:
        return None, "deleted"
    if row.bytes > MOST_BYTES:
        return None, "too_large"
    try:
        return read_verdict(store.files.local_copy(file_id).read_bytes()), ""
    except FileNotFoundError:  # deleted while we looked
        return None, "deleted"
    except NoEvaluation:
        return None, "unreadable"


def _flips(found: Verdict, criterion: str | None, kind: str | None, page: int) -> Flips:
    names = [one.name for one in found.criteria]
    chosen = criterion if criterion in names else (names[0] if names else "")
    return flips(found.samples, chosen, kind, page)


ROUTES = [
    Route("/ui/evaluations", evaluations),
    Route("/ui/evaluations/{job_id}", verdict),
]
