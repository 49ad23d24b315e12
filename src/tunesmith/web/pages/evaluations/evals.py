"""Evals of the API: their runs, charts of their graders, and two runs compared."""

from typing import TypeAlias, cast

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tunesmith.api.views.evals import eval_json, item_json, run_json
from tunesmith.jsonvalue import JsonObject
from tunesmith.store import ScopedStore
from tunesmith.store.evals.rows import EvalRow, ItemRow, ItemState, RunRow
from tunesmith.store.objects.pagination import Cursor
from tunesmith.web.access.visit import signed_in
from tunesmith.web.render import render
from tunesmith.web.views.evaluations.runs import Shown, compare_runs, graders, shown_item

LISTED = 20
ITEMS = 20
FINISHED = ("completed", "canceled", "failed")
Values: TypeAlias = dict[str, object]  # of a template


async def eval_page(request: Request) -> Response:
    """One eval: its runs side by side, grader by grader."""
    visit, after = await signed_in(request), request.query_params.get("after")
    values = await run_in_threadpool(_eval, visit.store, request.path_params["eval_id"], after)
    return render(request, "evaluations/eval.html", status=200, **values, finished=FINISHED)


def _eval(store: ScopedStore, eval_id: str, after: str | None) -> Values:
    row, runs = store.evals.get(eval_id), store.runs.page(eval_id, Cursor(LISTED, after))
    shown = [_run(run, row) for run in runs.data]
    last = runs.data[-1].id if runs.has_more else None
    return {"eval": eval_json(row), "runs": [(run, graders(run)) for run in shown], "after": last}


async def run_page(request: Request) -> Response:
    """One run: its sums, and its rows, those that failed first if asked."""
    visit, query, path = await signed_in(request), request.query_params, request.path_params
    status = query.get("status")
    only = cast("ItemState | None", status if status in ("pass", "fail") else None)
    values = await run_in_threadpool(_one, visit.store, path["eval_id"], path["run_id"], only, query.get("after"))
    return render(request, "evaluations/run.html", status=200, **values, only=only, finished=FINISHED)


def _one(store: ScopedStore, eval_id: str, run_id: str, only: ItemState | None, after: str | None) -> Values:
    row, run = store.evals.get(eval_id), store.runs.get(eval_id, run_id)
    items = store.runs.items(run, Cursor(ITEMS, after, "asc"), only)
    shown = _run(run, row)
    return {
        "eval": eval_json(row),
        "run": shown,
        "graders": graders(shown),
        "items": [_item(one, eval_id) for one in items.data],
        "after": items.data[-1].id if items.has_more else None,
    }


async def compare(request: Request) -> Response:
    """Two runs of an eval, over the rows that both have."""
    visit, query = await signed_in(request), request.query_params
    kind = query.get("kind") if query.get("kind") in ("gained", "lost") else None
    ids = query.get("before", ""), query.get("after", "")
    values = await run_in_threadpool(_compare, visit.store, request.path_params["eval_id"], ids, kind)
    return render(request, "evaluations/compare.html", status=200, **values)


def _compare(store: ScopedStore, eval_id: str, ids: tuple[str, str], kind: str | None) -> Values:
    row = store.evals.get(eval_id)
    before, after = (store.runs.get(eval_id, one) for one in ids)
    names = [str(one["name"]) for one in row.testing_criteria]
    compared = compare_runs(store.runs.paired(before, after), names)
    chosen = kind or ("gained" if compared.counts["gained"] else "lost")
    pairs = compared.gained if chosen == "gained" else compared.lost
    return {
        "eval": eval_json(row),
        "runs": [_run(run, row) for run in (before, after)],
        "compared": compared,
        "kind": chosen,
        "pairs": [
            [_item(store.runs.item(run, one), eval_id) for run, one in zip((before, after), pair, strict=True)]
            for pair in pairs
        ],
    }


def _run(run: RunRow, of: EvalRow) -> JsonObject:
    """The run as the API has it, but for its address, which no page shows."""
    return cast(JsonObject, run_json(run, of.testing_criteria, ""))


def _item(item: ItemRow, eval_id: str) -> Shown:
    return shown_item(cast(JsonObject, item_json(item, eval_id)))


ROUTES = [
    Route("/ui/evaluations/evals/{eval_id}", eval_page),
    Route("/ui/evaluations/evals/{eval_id}/compare", compare),
    Route("/ui/evaluations/evals/{eval_id}/runs/{run_id}", run_page),
]
