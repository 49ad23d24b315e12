"""Evals of the API: their runs, charts of their graders, and two runs compared."""

import asyncio
from collections.abc import Sequence
from typing import cast

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tunesmith.jsonvalue import JsonObject
from tunesmith.web.access.visit import Visit, signed_in
from tunesmith.web.render import render
from tunesmith.web.views.evaluations.runs import Comparison, Shown, compare_runs, graders, shown_item

LISTED = 20
ITEMS = 20
FINISHED = ("completed", "canceled", "failed")


async def eval_page(request: Request) -> Response:
    """One eval: its runs side by side, grader by grader."""
    visit = await signed_in(request)
    eval_id = request.path_params["eval_id"]
    found = await visit.api.get(f"/v1/evals/{eval_id}")
    after = request.query_params.get("after")
    runs = await visit.api.get(f"/v1/evals/{eval_id}/runs", limit=LISTED, order="desc", after=after)
    data = cast("list[JsonObject]", runs["data"])
    return render(
        request,
        "evaluations/eval.html",
        eval=found,
        runs=[(run, graders(run)) for run in data],
        after=runs["last_id"] if runs["has_more"] else None,
        finished=FINISHED,
    )


async def run_page(request: Request) -> Response:
    """One run: its sums, and its rows, those that failed first if asked."""
    visit = await signed_in(request)
    path = f"/v1/evals/{request.path_params['eval_id']}/runs/{request.path_params['run_id']}"
    found = await visit.api.get(f"/v1/evals/{request.path_params['eval_id']}")
    run = await visit.api.get(path)
    status = request.query_params.get("status")
    chosen = status if status in ("pass", "fail") else None
    after = request.query_params.get("after")
    items = await visit.api.get(f"{path}/output_items", limit=ITEMS, status=chosen, after=after)
    data = cast("list[JsonObject]", items["data"])
    return render(
        request,
        "evaluations/run.html",
        eval=found,
        run=run,
        graders=graders(run),
        items=[shown_item(one) for one in data],
        only=chosen,
        after=items["last_id"] if items["has_more"] else None,
        finished=FINISHED,
    )


async def compare(request: Request) -> Response:
    """Two runs of an eval, over the rows that both have."""
    visit = await signed_in(request)
    eval_id, query = request.path_params["eval_id"], request.query_params
    ids = [query.get(name, "") for name in ("before", "after")]
    found = await visit.api.get(f"/v1/evals/{eval_id}")
    runs = [await visit.api.get(f"/v1/evals/{eval_id}/runs/{one}") for one in ids]
    names = [str(one["name"]) for one in cast("list[JsonObject]", found["testing_criteria"])]
    compared = await run_in_threadpool(_compare, visit, eval_id, ids, names)
    kind = query.get("kind") if query.get("kind") in ("gained", "lost") else None
    chosen = kind or ("gained" if compared.counts["gained"] else "lost")
    pairs = compared.gained if chosen == "gained" else compared.lost
    base = f"/v1/evals/{eval_id}/runs"
    shown = [await asyncio.gather(*(_item(visit, base, *one) for one in zip(ids, pair, strict=True))) for pair in pairs]
    return render(
        request,
        "evaluations/compare.html",
        eval=found,
        runs=runs,
        compared=compared,
        kind=chosen,
        pairs=shown,
    )


def _compare(visit: Visit, eval_id: str, ids: Sequence[str], names: Sequence[str]) -> Comparison:
    rows = [visit.store.runs.get(eval_id, one) for one in ids]
    return compare_runs(visit.store.runs.paired(rows[0], rows[1]), names)


async def _item(visit: Visit, base: str, run_id: str, item_id: str) -> Shown:
    return shown_item(await visit.api.get(f"{base}/{run_id}/output_items/{item_id}"))


ROUTES = [
    Route("/ui/evaluations/evals/{eval_id}", eval_page),
    Route("/ui/evaluations/evals/{eval_id}/compare", compare),
    Route("/ui/evaluations/evals/{eval_id}/runs/{run_id}", run_page),
]
