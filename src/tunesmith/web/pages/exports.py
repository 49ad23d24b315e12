"""A model written for other programs, from its own page."""

from dataclasses import dataclass
from email.utils import formatdate
from typing import cast, get_args
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from tunesmith.api.exports.archive import Archive
from tunesmith.api.exports.request import ExportRequest
from tunesmith.api.exports.service import Exports
from tunesmith.api.exports.shelf import ExportFile
from tunesmith.api.exports.state import State
from tunesmith.api.stored_content import streamed
from tunesmith.errors import InvalidRequest, PermissionDenied, TunesmithError
from tunesmith.export.kinds import WIDTHS, WITH_WIDTH, Kind, Width, folder_name, kinds_of
from tunesmith.models.adapters import read_manifest
from tunesmith.store import ModelRow
from tunesmith.store.objects.models import no_such_model
from tunesmith.system.audit import note_change
from tunesmith.web.access.visit import Visit, signed_in, web_of
from tunesmith.web.render import render
from tunesmith.web.views.snippets import Snippet, exports

PATH = "/ui/model-exports"


@dataclass(frozen=True, slots=True)
class Line:
    """One format: its command, and how far the server is with it."""

    command: Snippet
    kind: Kind
    widths: tuple[Width, ...]  # to choose from
    state: State | None


@dataclass(frozen=True, slots=True)
class Offer:
    """What the page offers; `busy`: another model is being written."""

    model: str
    lines: list[Line]
    busy: State | None

    @property
    def running(self) -> bool:
        """Whether the page is to ask again."""
        return self.busy is not None or any(one.state and one.state.phase == "running" for one in self.lines)


def offer_of(request: Request, model: str, *, adapter: bool) -> Offer:
    """What can be written of a model, and what is; for a thread."""
    service, commands = _service(request), exports(model, adapter=adapter)
    states = service.states(model)
    lines = [
        Line(command, kind, WIDTHS if kind in WITH_WIDTH else (), states.get(kind))
        for command, kind in zip(commands, kinds_of(adapter=adapter), strict=True)
    ]
    other = service.running()
    return Offer(model, lines, other if other is not None and other.model != model else None)


async def part(request: Request) -> Response:
    """The part of the page, as it is now."""
    visit = await signed_in(request)
    row = await _row(visit, request.query_params.get("name", ""))
    return await _shown(request, row)


async def start(request: Request) -> Response:
    """Begins to write a model; a refusal stands above the formats."""
    visit, row, kind, width = await _sent(request)
    try:
        await run_in_threadpool(_start, request, visit, row, kind, width)
    except TunesmithError as error:
        return await _shown(request, row, error)
    return await _shown(request, row)


async def remove(request: Request) -> Response:
    """Ends an export that is being written, or removes what was written."""
    _, row, kind, _ = await _sent(request)
    await run_in_threadpool(_service(request).remove, row.name, kind)
    return await _shown(request, row)


async def download(request: Request) -> Response:
    """A GGUF file as it is, any other export as a tar file."""
    visit, query = await signed_in(request), request.query_params
    row, kind = await _row(visit, query.get("name", "")), _kind(query.get("kind", ""))
    files = await run_in_threadpool(_service(request).files, row.name, kind)
    plain = folder_name(row.name, kind)
    if kind == "gguf":
        file = next(one for one in files if one.name.endswith(".gguf"))
        return _sent_file(request, file, f"{plain.removesuffix('-gguf')}.gguf")
    archive = Archive(files, plain)
    headers = {"content-disposition": f'attachment; filename="{plain}.tar"', "content-length": str(archive.size)}
    return StreamingResponse(archive.blocks(), media_type="application/x-tar", headers=headers)


def _sent_file(request: Request, file: ExportFile, name: str) -> Response:
    """One file, or the range of it that was asked for."""
    if file.path is not None:
        return FileResponse(file.path, filename=name)
    headers = {
        "content-disposition": f'attachment; filename="{name}"',
        "etag": f'"{file.size}-{int(file.modified)}"',
        "last-modified": formatdate(file.modified, usegmt=True),
    }
    return streamed(request.headers, file.size, file.read, headers)


async def _sent(request: Request) -> tuple[Visit, ModelRow, Kind, str]:
    visit, form = await signed_in(request), await request.form()
    row, kind = await _row(visit, str(form.get("name", ""))), _kind(str(form.get("kind", "")))
    return visit, row, kind, str(form.get("width", "auto"))


def _start(request: Request, visit: Visit, row: ModelRow, kind: Kind, width: str) -> None:
    if width not in WIDTHS:
        raise InvalidRequest(f"There are no weights {width[:20]!r}. Choose one of: {', '.join(WIDTHS)}.", param="width")
    visit.store.models.fetch(row)  # says what is to be done about a model without weights
    message = visit.store.models.system_message(row.name)
    wanted = ExportRequest(row.name, row.base_model, row.adapter_dir, kind, width, message)
    _service(request).start(wanted)
    who, where = f"{visit.key.id} (…{visit.key.hint})", request.client.host if request.client else "unknown"
    note_change("model.exported", row.name, who=who, where=where, format=kind)


async def _shown(request: Request, row: ModelRow, error: TunesmithError | None = None) -> Response:
    """The part; without scripts the page, which says what was refused in a page of its own."""
    if "hx-request" not in request.headers and request.method == "POST":
        if error is not None:
            raise error
        return RedirectResponse(f"/ui/models/{quote(row.name)}#export", 303)
    offer = await run_in_threadpool(_offer, request, row)
    status = 200 if error is None else error.status
    message = None if error is None else error.message
    return render(request, "parts/exports.html", status=status, offer=offer, problem=message)


def _offer(request: Request, row: ModelRow) -> Offer:
    try:
        adapter = read_manifest(row.adapter_dir).adapter == "lora"
    except TunesmithError:
        adapter = True
    return offer_of(request, row.name, adapter=adapter)


async def _row(visit: Visit, name: str) -> ModelRow:
    """The project's own model. Raises NotFound, and PermissionDenied for a key that may only look."""
    if not visit.may("member"):
        raise PermissionDenied("This key is read-only: writing models for other programs takes a member's key.")
    row = await run_in_threadpool(visit.store.models.get, name)
    if row is None or row.project != visit.key.project:
        raise no_such_model(name)
    return row


def _kind(text: str) -> Kind:
    if text not in get_args(Kind):
        raise InvalidRequest(f"There is no format {text[:20]!r}. There are: {', '.join(get_args(Kind))}.", param="kind")
    return cast(Kind, text)


def _service(request: Request) -> Exports:
    return cast(Exports, web_of(request).api.state.exports)


ROUTES = [
    Route(PATH, part),
    Route(PATH + "/download", download),
    Route(PATH + "/start", start, methods=["POST"]),
    Route(PATH + "/remove", remove, methods=["POST"]),
]
