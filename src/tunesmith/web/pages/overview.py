"""The first page: what runs, what is new, what went wrong."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tunesmith.web.access.visit import signed_in, web_of
from tunesmith.web.live.part import changed_part
from tunesmith.web.render import render
from tunesmith.web.views.overview import overview_of


async def overview(request: Request) -> Response:
    """Jobs at work, the newest models, the last errors, and room."""
    return await _shown(request, "overview.html")


async def live_part(request: Request) -> Response:
    """What of the page changes, for its script."""
    return await changed_part(request, lambda asked: _shown(asked, "parts/overview.html"))


async def _shown(request: Request, template: str) -> Response:
    visit = await signed_in(request)
    found = await run_in_threadpool(overview_of, visit.store, web_of(request).feeds, visit.settings)
    return render(request, template, overview=found)


ROUTES = [Route("/", overview), Route("/ui/overview", live_part)]
