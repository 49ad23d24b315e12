"""API keys: which there are, a new one whose secret is shown once, revoking one."""

from collections.abc import Mapping

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from tunesmith.jsonvalue import JsonValue
from tunesmith.store import KeyRow
from tunesmith.web.access.api_call import Refused
from tunesmith.web.access.visit import Visit, signed_in
from tunesmith.web.render import render
from tunesmith.web.views.organization.keys import DAY, LIFETIMES, listed

LISTED = 50
MOST_PROJECTS = 500  # to choose from
ROLES = ("member", "read-only", "owner")


async def keys_page(request: Request) -> Response:
    """The keys of all projects."""
    visit = await signed_in(request)
    if not visit.may("owner"):
        return render(request, "organization/own_key.html")
    return render(request, "organization/keys.html", status=200, **await _listing(visit, request), made=None)


async def create(request: Request) -> Response:
    """Makes a key; this answer is the only one that has its secret."""
    visit = await signed_in(request)
    form = await request.form()
    role, project = str(form.get("role", "member")), str(form.get("project", "default"))
    path = "/v1/organization/admin_api_keys" if role == "owner" else f"/v1/organization/projects/{project}/api_keys"
    made = await visit.api.post(path, _body(form, role))
    values = await _listing(visit, request)
    template = "organization/made.html" if "hx-request" in request.headers else "organization/keys.html"
    return render(request, template, status=200, **values, made=made)


async def revoke(request: Request) -> Response:
    """Revokes a key; what is wrong is said above the list."""
    visit = await signed_in(request)
    key_id, problem = request.path_params["key_id"], ""
    row = await run_in_threadpool(visit.store.keys.get, key_id) if visit.may("owner") else None
    try:
        await visit.api.delete(_path(row) if row else f"/v1/organization/admin_api_keys/{key_id}")
    except Refused as refused:
        if not visit.may("owner"):
            raise
        problem = refused.message
    if "hx-request" not in request.headers and not problem:
        return RedirectResponse("/ui/keys", 303)
    values = await _listing(visit, request) | {"problem": problem}
    template = "organization/key_list.html" if "hx-request" in request.headers else "organization/keys.html"
    return render(request, template, status=200, **values, made=None)


def _path(row: KeyRow) -> str:
    if row.role == "owner":
        return f"/v1/organization/admin_api_keys/{row.id}"
    return f"/v1/organization/projects/{row.project}/api_keys/{row.id}"


def _body(form: FormData, role: str) -> Mapping[str, JsonValue]:
    days = str(form.get("days", ""))
    body: dict[str, JsonValue] = {"name": str(form.get("name", "")).strip()}
    if role != "owner":
        body["role"] = role
    if days.isascii() and days.isdecimal() and len(days) < 6:
        body["expires_in_seconds"] = int(days) * DAY
    return body


async def _listing(visit: Visit, request: Request) -> dict[str, object]:
    """A page of keys and the projects that a new one may be for."""
    projects = await visit.api.all("/v1/organization/projects", MOST_PROJECTS, include_archived=True)
    names = {str(one["id"]): str(one["name"]) for one in projects}
    past, after = request.query_params.get("past") == "1", request.query_params.get("after")
    rows, more = await run_in_threadpool(_rows, visit, past, after)
    return {
        "keys": listed(rows, names, visit.key.id),
        "projects": [one for one in projects if one["status"] == "active"],
        "past": past,
        "after": rows[-1].id if more else None,
        "roles": ROLES,
        "lifetimes": LIFETIMES,
        "problem": "",
    }


def _rows(visit: Visit, past: bool, after: str | None) -> tuple[list[KeyRow], bool]:
    """The valid keys page by page, or the newest of all."""
    if past:
        return visit.store.keys.all()[::-1][: 4 * LISTED], False
    page = visit.store.keys.page(limit=LISTED, after=after)
    return list(page.data), page.has_more


ROUTES = [
    Route("/ui/keys", keys_page, methods=["GET"]),
    Route("/ui/keys", create, methods=["POST"]),
    Route("/ui/keys/{key_id}/revoke", revoke, methods=["POST"]),
]
