"""Models: what there is, its origin, its worth, and how it is called."""

from dataclasses import dataclass
from functools import partial
from typing import cast
from urllib.parse import quote, urlencode

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from tunesmith.jsonvalue import JsonObject
from tunesmith.store.objects.models import no_such_model
from tunesmith.web.access.visit import Visit, signed_in
from tunesmith.web.pages.exports import offer_of
from tunesmith.web.render import render
from tunesmith.web.views.markdown import markdown
from tunesmith.web.views.model_lists import Base, bases, tuned_page
from tunesmith.web.views.model_page import ModelPage, model_page
from tunesmith.web.views.snippets import snippets

PAGE = 20
MODELS = "/ui/models"
PERMISSIONS = "/v1/fine_tuning/checkpoints/{}/permissions"
MOST_SHARES = 100


async def list_models(request: Request) -> Response:
    """Bases, then tuned models and checkpoints, newest first."""
    visit = await signed_in(request)
    after = request.query_params.get("after")
    tuned, more = await run_in_threadpool(tuned_page, visit.store, limit=PAGE, after=after)
    return render(
        request,
        "models.html",
        bases=await run_in_threadpool(bases, visit.settings, visit.store),
        tuned=tuned,
        after=after,
        following=tuned[-1].name if more else None,
        deleted=request.query_params.get("deleted"),
    )


async def one_model(request: Request) -> Response:
    """A tuned model, a checkpoint, or a base."""
    visit, name = await signed_in(request), request.path_params["name"]
    page = await run_in_threadpool(_tuned, visit, name)
    if page is None:
        base = await run_in_threadpool(_base, visit, name)
        return render(request, "base_model.html", base=base, use=_use(request, name, None))
    system = await run_in_threadpool(visit.store.models.system_message, name)
    return render(
        request,
        "model.html",
        model=page,
        card=markdown(page.card, below=1) if page.card else None,
        use=_use(request, name, system),
        offer=await run_in_threadpool(partial(offer_of, request, name, adapter=page.is_adapter)),
        problem=None,
        sharing=await _sharing(visit, name, own=page.own),
    )


async def card(request: Request) -> Response:
    """The card as a file."""
    visit, name = await signed_in(request), request.query_params.get("name", "")
    page = await run_in_threadpool(_tuned, visit, name)
    if page is None or page.card is None:
        raise HTTPException(404)
    plain = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name)[:100]
    headers = {"content-disposition": f'attachment; filename="{plain}.md"'}
    return Response(page.card, media_type="text/markdown; charset=utf-8", headers=headers)


async def delete(request: Request) -> Response:
    """Deletes a tuned model or a checkpoint."""
    visit, name = await signed_in(request), await _named(request)
    await visit.api.delete(f"/v1/models/{name}")
    return _to(request, f"{MODELS}?{urlencode({'deleted': name})}")


async def rename(request: Request) -> Response:
    """Gives a model the name that pages show; its own name stays."""
    visit, name = await signed_in(request), await _named(request)
    display = str((await request.form()).get("display", ""))
    await visit.api.post(f"/v1/models/{name}/display_name", {"display_name": display})
    return _to(request, f"{MODELS}/{quote(name)}")


async def share(request: Request) -> Response:
    """Lets another project use a model."""
    visit, name = await signed_in(request), await _named(request)
    project = str((await request.form()).get("project", ""))
    await visit.api.post(PERMISSIONS.format(name), {"project_ids": [project]})
    return await _shared(request, visit, name)


async def unshare(request: Request) -> Response:
    """Takes a permission back."""
    visit, name = await signed_in(request), await _named(request)
    permission = str((await request.form()).get("permission", ""))
    await visit.api.delete(f"{PERMISSIONS.format(name)}/{permission}")
    return await _shared(request, visit, name)


@dataclass(frozen=True, slots=True)
class Shared:
    """A project that may use the model."""

    permission: str
    project: str
    name: str
    created_at: int


@dataclass(frozen=True, slots=True)
class Sharing:
    """Who may use the model, and who else could: (id, name)."""

    shares: list[Shared]
    projects: list[tuple[str, str]]


async def _shared(request: Request, visit: Visit, name: str) -> Response:
    """The part of the page that lists who may use the model; without scripts, the page."""
    if "hx-request" not in request.headers:
        return RedirectResponse(f"{MODELS}/{quote(name)}", 303)
    part = render(request, "parts/sharing.html", name=name, sharing=await _sharing(visit, name, own=True))
    part.headers.update({"hx-retarget": "#sharing", "hx-reswap": "outerHTML"})  # a refusal stands below the form
    return part


async def _sharing(visit: Visit, name: str, *, own: bool) -> Sharing:
    """Only owners see other projects' names."""
    if not own:
        return Sharing([], [])
    found = await visit.api.get(PERMISSIONS.format(name), limit=MOST_SHARES)
    rows = cast(list[JsonObject], found["data"])
    known = await run_in_threadpool(_projects, visit) if visit.may("owner") else {}
    shares = [_share(row, known) for row in rows]
    taken = {visit.key.project, *(one.project for one in shares)}
    return Sharing(shares, [one for one in known.items() if one[0] not in taken])


def _share(row: JsonObject, known: dict[str, str]) -> Shared:
    project = str(row["project_id"])
    return Shared(str(row["id"]), project, known.get(project, ""), cast(int, row["created_at"]))


def _projects(visit: Visit) -> dict[str, str]:
    return {row.id: row.name for row in visit.store.projects.page(limit=200).data}


def _tuned(visit: Visit, name: str) -> ModelPage | None:
    row = visit.store.models.get(name)
    return None if row is None else model_page(visit.store, row)


def _base(visit: Visit, name: str) -> Base:
    """The base of that name, or that the alias stands for. Raises NotFound."""
    for one in bases(visit.settings, visit.store):
        if name == one.name or name in one.aliases:
            return one
    raise no_such_model(name)


def _use(request: Request, name: str, system: str | None) -> dict[str, object]:
    """What calls the model at the address that the browser knows this server by."""
    server = f"{request.url.scheme}://{request.url.netloc}"
    return {"name": name, "system_message": system, "snippets": snippets(name, server, system)}


def _to(request: Request, target: str) -> Response:
    """Leads on to a page, with and without scripts."""
    if "hx-request" in request.headers:
        return Response(status_code=204, headers={"hx-redirect": target})
    return RedirectResponse(target, 303)


async def _named(request: Request) -> str:
    return str((await request.form()).get("name", ""))


ROUTES = [
    Route(MODELS, list_models),
    Route("/ui/model-card", card),
    Route("/ui/model-actions/delete", delete, methods=["POST"]),
    Route("/ui/model-actions/rename", rename, methods=["POST"]),
    Route("/ui/model-actions/share", share, methods=["POST"]),
    Route("/ui/model-actions/unshare", unshare, methods=["POST"]),
    Route(MODELS + "/{name:path}", one_model),
]
