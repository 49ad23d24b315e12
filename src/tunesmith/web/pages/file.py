"""One file: what the check found, what a row teaches, what `fix` would change.

What reads rows runs in the check's child process, and comes after the page.
"""

from functools import partial
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import cast

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from tunesmith.errors import InvalidRequest, NotFound
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.store import FileRow
from tunesmith.web.access.visit import Visit, signed_in
from tunesmith.web.looks.ask import FIX, MASK, ROWS, look
from tunesmith.web.render import render
from tunesmith.web.views.bases import base_names, model_folder
from tunesmith.web.views.file_report import FileReport, file_report, findings_page

MOST_MODELS = 100  # tuned ones, to choose from
FIX_AT_ONCE = 1_000_000  # bytes: a quarter of a second; of a larger file the changes are shown when they are asked for


async def file(request: Request) -> Response:
    """The page; the report is the one of the upload's check."""
    visit, row, report = await _asked(request)
    jobs = [job for _, job in await run_in_threadpool(visit.store.jobs.using, [row.id], limit=20)]
    shown = None if report is None else file_report(report)
    return render(
        request,
        "files/file.html",
        file=row,
        report=shown,
        findings=None if report is None else findings_page(report, _number(request, "page")),
        jobs=jobs,
        bases=base_names(visit.settings),
        tuned=[one.name for one in (await run_in_threadpool(partial(visit.store.models.page, limit=MOST_MODELS))).data],
        fix_at_once=row.bytes <= FIX_AT_ONCE,
        first_line=_first_line(report, shown),
    )


async def state(request: Request) -> Response:
    """Whether the check goes on; once it has ended, the browser loads the page again."""
    _, row, _ = await _asked(request)
    if row.status == "uploaded":
        return render(request, "files/checking.html", file=row)
    return Response(status_code=200, headers={"hx-refresh": "true"})


async def findings(request: Request) -> Response:
    """A page of the findings with their rows' texts."""
    visit, row, report = await _asked(request)
    if report is None:
        raise NotFound("This file has no report yet.")
    page = _number(request, "page")
    wanted = findings_page(report, page)
    seen = await look(request, ROWS, {"path": await _path(visit, row), "places": wanted.places}, row.bytes)
    full = findings_page(report, page, cast(list[JsonValue], seen["places"]))
    return render(request, "files/findings.html", file=row, findings=full, with_rows=True)


async def duplicates(request: Request) -> Response:
    """Rows that say the same, side by side."""
    visit, row, report = await _asked(request)
    pairs = () if report is None else file_report(report).pairs
    lines: list[JsonValue] = [line for one, other, _ in pairs for line in (one, other)]
    seen = await look(request, ROWS, {"path": await _path(visit, row), "lines": lines}, row.bytes)
    return render(request, "files/duplicates.html", file=row, pairs=pairs, texts=seen["rows"])


async def mask(request: Request) -> Response:
    """What the row of a line teaches a base."""
    visit, row, _ = await _asked(request)
    base = request.query_params.get("base", "")
    line = _number(request, "line")
    folder, limit = await run_in_threadpool(model_folder, base, visit.store, visit.settings)
    values: JsonObject = {
        "path": await _path(visit, row),
        "base": str(folder.absolute()),
        "line": line,
        "max_tokens": limit,
    }
    seen = await look(request, MASK, values, row.bytes)
    return render(request, "files/mask.html", previews=seen["previews"], line=line, base=base)


async def fix(request: Request) -> Response:
    """What `fix` would change."""
    visit, row, _ = await _asked(request)
    seen = await look(request, FIX, {"path": await _path(visit, row)}, row.bytes)
    return render(request, "files/fix.html", file=row, fix=seen)


async def apply_fix(request: Request) -> Response:
    """Stores the fixed file beside the old one, through the API."""
    visit, row, _ = await _asked(request)
    with TemporaryDirectory(prefix="tunesmith-fix-") as folder:
        target = Path(folder) / "fixed.jsonl"
        seen = await look(request, FIX, {"path": await _path(visit, row), "target": str(target)}, row.bytes)
        if not seen["written"]:
            raise InvalidRequest("Nothing was stored: no row of this file would be changed, or none would be left.")
        made = await visit.api.upload(fixed_name(row.filename), target, row.purpose)
    address = f"/ui/files/{made['id']}"
    if "hx-request" in request.headers:
        return Response(status_code=200, headers={"hx-redirect": address})
    return RedirectResponse(address, 303)


async def delete(request: Request) -> Response:
    """Deletes the file, as the API does."""
    visit, row, _ = await _asked(request)
    await visit.api.delete(f"/v1/files/{row.id}")
    return RedirectResponse("/ui/files", 303)


def fixed_name(name: str) -> str:
    """`train.csv` becomes `train-fixed.jsonl`.

    Of a very long name the beginning is kept.
    """
    stem = PurePath(name).stem or "file"
    return f"{stem[:200]}-fixed.jsonl"


async def _asked(request: Request) -> tuple[Visit, FileRow, JsonObject | None]:
    """Who asks, the file and its report. Raises NotFound in the API's words."""
    visit = await signed_in(request)
    file_id = str(request.path_params["file_id"])
    row = await run_in_threadpool(visit.store.files.get, file_id)
    if row is None:
        raise NotFound(f"No such File object: {file_id}", param="id")
    report = await run_in_threadpool(visit.store.files.report, file_id)
    return visit, row, report if report and "examples" in report else None  # of an earlier version


async def _path(visit: Visit, row: FileRow) -> str:
    return str((await run_in_threadpool(visit.store.files.local_copy, row.id)).absolute())


def _number(request: Request, name: str) -> int:
    given = request.query_params.get(name, "1")
    return int(given) if given.isascii() and given.isdigit() and 0 < len(given) < 10 else 1


def _first_line(report: JsonObject | None, shown: FileReport | None) -> int | None:
    """A line that has a sound row, for the preview; None where there may be none."""
    if report is None or shown is None or shown.rows <= shown.bad_rows:
        return None
    broken = {one["line"] for one in cast(list[JsonObject], report["errors"])}
    return next(line for line in range(1, len(broken) + 2) if line not in broken)


ROUTES = [
    Route("/ui/files/{file_id}", file, methods=["GET"]),
    Route("/ui/files/{file_id}/state", state, methods=["GET"]),
    Route("/ui/files/{file_id}/findings", findings, methods=["GET"]),
    Route("/ui/files/{file_id}/duplicates", duplicates, methods=["GET"]),
    Route("/ui/files/{file_id}/mask", mask, methods=["GET"]),
    Route("/ui/files/{file_id}/fix", fix, methods=["GET"]),
    Route("/ui/files/{file_id}/fix", apply_fix, methods=["POST"]),
    Route("/ui/files/{file_id}/delete", delete, methods=["POST"]),
]
