"""Files: the list, and bringing one."""

from typing import cast

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tunesmith.jsonvalue import JsonObject
from tunesmith.web.access.visit import Visit, signed_in
from tunesmith.web.render import render

PAGE = 25
PURPOSES = ("fine-tune", "evals", "fine-tune-results")
WHOLE_BYTES = 32_000_000  # larger files go in parts


async def files(request: Request) -> Response:
    """The newest files, or those after one, of a purpose or of all."""
    visit = await signed_in(request)
    purpose = request.query_params.get("purpose")
    purpose = purpose if purpose in PURPOSES else None
    page = await visit.api.get("/v1/files", limit=PAGE, after=request.query_params.get("after"), purpose=purpose)
    found = cast(list[JsonObject], page["data"])
    rows, jobs = await run_in_threadpool(_further, visit, [str(one["id"]) for one in found])
    return render(
        request,
        "files/list.html",
        files=found,
        rows=rows,
        jobs=jobs,
        purpose=purpose,
        purposes=PURPOSES,
        next=found[-1]["id"] if page["has_more"] else None,
        first="after" not in request.query_params,
        whole_bytes=min(WHOLE_BYTES, visit.settings.max_file_bytes),
        part_bytes=min(WHOLE_BYTES, visit.settings.max_part_bytes),
    )


def _further(visit: Visit, ids: list[str]) -> tuple[dict[str, int], dict[str, list[str]]]:
    """How many rows each file has, where it was checked, and the jobs that use it, newest first."""
    jobs: dict[str, list[str]] = {}
    for file, job in visit.store.jobs.using(ids):
        jobs.setdefault(file, []).append(job)
    return visit.store.files.row_counts(ids), jobs


ROUTES = [Route("/ui/files", files)]
