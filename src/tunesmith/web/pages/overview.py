"""The first page: what runs, what is new, what went wrong."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tunesmith.web.access.visit import signed_in
from tunesmith.web.render import render


async def overview(request: Request) -> Response:
    """Jobs at work and the newest models."""
    visit = await signed_in(request)
    jobs = await visit.api.get("/v1/fine_tuning/jobs", limit=20)
    return render(request, "overview.html", jobs=jobs["data"])


ROUTES = [Route("/", overview)]
