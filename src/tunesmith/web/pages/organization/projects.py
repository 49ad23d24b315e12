"""Projects: which there are, a new one, and which of them an owner looks at."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from tunesmith.web.access.api_call import Refused, path_part
from tunesmith.web.access.visit import PROJECT_COOKIE, Visit, signed_in
from tunesmith.web.render import CHOICE_SECONDS, render

LISTED = 50
API = "/v1/organization/projects"


async def projects_page(request: Request) -> Response:
    """The projects of the organisation."""
    visit = await signed_in(request)
    if not visit.may("owner"):
        return render(request, "organization/owners_only.html", status=403, title="nav.projects")
    return await _page(request, visit, "")


async def create(request: Request) -> Response:
    """Makes a project."""
    visit = await signed_in(request)
    name = str((await request.form()).get("name", "")).strip()
    return await _done(request, visit, API, {"name": name})


async def rename(request: Request) -> Response:
    """Renames a project; its id stays."""
    visit = await signed_in(request)
    name = str((await request.form()).get("name", "")).strip()
    return await _done(request, visit, f"{API}/{request.path_params['project_id']}", {"name": name})


async def archive(request: Request) -> Response:
    """Archives a project: its keys stop working, its objects stay."""
    visit = await signed_in(request)
    return await _done(request, visit, f"{API}/{request.path_params['project_id']}/archive", None)


async def look(request: Request) -> Response:
    """Has the dashboard show another project from now on; only owners have the choice."""
    visit = await signed_in(request)
    chosen = str((await request.form()).get("project", ""))
    try:
        await visit.api.get(f"{API}/{path_part(chosen)}")
    except Refused as refused:
        return await _page(request, visit, refused.message) if visit.may("owner") else _raise(refused)
    response = RedirectResponse("/", 303)
    secure = request.url.scheme == "https"
    response.set_cookie(PROJECT_COOKIE, chosen, max_age=CHOICE_SECONDS, httponly=True, samesite="strict", secure=secure)
    return response


def _raise(refused: Refused) -> Response:
    raise refused


async def _done(request: Request, visit: Visit, path: str, body: dict[str, str] | None) -> Response:
    try:
        await visit.api.post(path, None if body is None else {**body})
    except Refused as refused:
        if not visit.may("owner"):
            raise
        return await _page(request, visit, refused.message)
    return RedirectResponse("/ui/projects", 303)


async def _page(request: Request, visit: Visit, problem: str) -> Response:
    archived, after = request.query_params.get("archived") == "1", request.query_params.get("after")
    found = await visit.api.get(API, limit=LISTED, after=after, include_archived=archived)
    own = await run_in_threadpool(visit.store.keys.get, visit.key.id)
    return render(
        request,
        "organization/projects.html",
        status=400 if problem else 200,
        projects=found["data"],
        after=found["last_id"] if found["has_more"] else None,
        archived=archived,
        own="" if own is None else own.project,
        problem=problem,
    )


ROUTES = [
    Route("/ui/projects", projects_page, methods=["GET"]),
    Route("/ui/projects", create, methods=["POST"]),
    Route("/ui/projects/look", look, methods=["POST"]),
    Route("/ui/projects/{project_id}/rename", rename, methods=["POST"]),
    Route("/ui/projects/{project_id}/archive", archive, methods=["POST"]),
]
