"""Health: whether everything that the server needs is there."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tunesmith.system.audit import recent_refusals
from tunesmith.web.access.visit import signed_in, web_of
from tunesmith.web.render import render
from tunesmith.web.views.organization.health import look, recent_changes


async def health_page(request: Request) -> Response:
    """What the server needs; to owners also changes and refusals."""
    visit = await signed_in(request)
    health = await visit.api.get("/healthz")
    machine = await run_in_threadpool(look, visit.settings)
    owner = visit.may("owner")
    changes = await run_in_threadpool(recent_changes, visit.settings.paths.root) if owner else []
    return render(
        request,
        "organization/health.html",
        worker=health.get("worker"),
        has_worker=hasattr(web_of(request).api.state, "worker_fault"),
        machine=machine,
        data_dir=str(visit.settings.paths.root) if owner else None,
        changes=changes,
        refusals=recent_refusals() if owner else [],
    )


ROUTES = [Route("/ui/health", health_page)]
