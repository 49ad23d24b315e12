"""The playground: one conversation, up to three models, corrected answers."""

import json
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tunesmith.check.rules.file_rules import MIN_EXAMPLES
from tunesmith.errors import InvalidRequest
from tunesmith.models.registry import alias_table, default_base, list_bases
from tunesmith.web.access.visit import Visit, signed_in
from tunesmith.web.render import render
from tunesmith.web.views.corrections import (
    Correction,
    add_correction,
    content_of,
    read_corrections,
    remove_correction,
)

PLAYGROUND = "/ui/playground"
MOST_NAMED = 100  # tuned models that are offered; others are typed
MOST_SHOWN = 20  # corrected answers


async def playground(request: Request) -> Response:
    """The page; what is said there is kept by the browser."""
    visit = await signed_in(request)
    bases, tuned = await run_in_threadpool(_models, visit)
    corrections = await read_corrections(visit.api)
    wanted = [name for name in request.query_params.getlist("model") if name][:3]
    default = await run_in_threadpool(default_base, visit.settings)
    return render(
        request,
        "playground.html",
        bases=bases,
        tuned=tuned,
        wanted=wanted,
        first=[default.name, *tuned[:1]],
        kept=_kept(corrections),
    )


async def add(request: Request) -> Response:
    """Keeps a corrected answer."""
    visit = await signed_in(request)
    try:
        row = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("The body is not JSON.") from error
    return _part(request, await add_correction(visit.api, row))


async def remove(request: Request) -> Response:
    """Removes one."""
    visit = await signed_in(request)
    wanted = str((await request.form()).get("id", ""))
    return _part(request, await remove_correction(visit.api, wanted))


async def download(request: Request) -> Response:
    """All of them, a row a line."""
    visit = await signed_in(request)
    headers = {"content-disposition": 'attachment; filename="corrections.jsonl"'}
    content = content_of(await read_corrections(visit.api))
    return Response(content, media_type="application/jsonl", headers=headers)


async def make_file(request: Request) -> Response:
    """Uploads them as a training file, which the API checks."""
    visit = await signed_in(request)
    corrections = await read_corrections(visit.api)
    made = await visit.api.upload("corrections.jsonl", content_of(corrections), "fine-tune")
    return _part(request, corrections, made=str(made["id"]))


def _part(request: Request, corrections: list[Correction], made: str | None = None) -> Response:
    part = render(request, "parts/corrections.html", kept=_kept(corrections, made))
    part.headers.update({"hx-retarget": "#corrections", "hx-reswap": "outerHTML"})  # a refusal has a place of its own
    return part


@dataclass(frozen=True, slots=True)
class Kept:
    """The corrected answers as the page lists them."""

    newest: list[Correction]
    count: int
    least: int  # that a job takes
    made: str | None  # the training file that was just made of them


def _kept(corrections: list[Correction], made: str | None = None) -> Kept:
    return Kept(list(reversed(corrections))[:MOST_SHOWN], len(corrections), MIN_EXAMPLES, made)


def _models(visit: Visit) -> tuple[list[str], list[str]]:
    """Names of bases and aliases, and of the newest tuned models."""
    names = [base.name for base in list_bases(visit.settings)]
    aliases = alias_table(visit.settings, visit.store.aliases.all())
    return [*names, *aliases], [row.name for row in visit.store.models.page(limit=MOST_NAMED).data]


ROUTES = [
    Route(PLAYGROUND, playground),
    Route(PLAYGROUND + "/corrections", add, methods=["POST"]),
    Route(PLAYGROUND + "/corrections/remove", remove, methods=["POST"]),
    Route(PLAYGROUND + "/corrections/file", make_file, methods=["POST"]),
    Route(PLAYGROUND + "/corrections.jsonl", download),
]
