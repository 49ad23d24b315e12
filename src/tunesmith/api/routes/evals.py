"""Evals: what is tested, the runs of it, and what each row was answered.

The twelve routes below /v1/evals. Source of the shapes: OpenAI's description.
"""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from starlette.concurrency import run_in_threadpool

from tunesmith.api.evals.requests import new_eval, new_run
from tunesmith.api.evals.service import EvalRunsDep
from tunesmith.api.http.body import read_object
from tunesmith.api.http.context import ContextDep, KeyDep
from tunesmith.api.http.idempotency import IdempotencyDep
from tunesmith.api.http.json_answers import JSONAnswer
from tunesmith.api.http.paging import After, Limit, Order, id_listing
from tunesmith.api.http.rules import rule
from tunesmith.api.middleware.body_limits import check_metadata
from tunesmith.api.views.evals import eval_json, item_json, run_json
from tunesmith.store.objects.pagination import Cursor
from tunesmith.wire.body import read
from tunesmith.wire.evals.answers import EvalDeleted, RunDeleted, RunStatus
from tunesmith.wire.evals.bodies import CreateEval, CreateRun, UpdateEval

router = APIRouter(prefix="/v1/evals", tags=["evals"])

OrderBy = Annotated[Literal["created_at", "updated_at"], Query(description="created_at or updated_at.")]
Status = Annotated[RunStatus | None, Query(description="Only runs in this state.")]
Passed = Annotated[Literal["pass", "fail"] | None, Query(description="Only rows that passed, or failed.")]


async def get_page(after: After, limit: Limit = 20, order: Order = "asc") -> Cursor:
    """Which page is asked for.

    Oldest first unless it says otherwise, as in OpenAI's description.
    """
    return Cursor(limit, after, order)


PageDep = Annotated[Cursor, Depends(get_page)]


@router.post("", status_code=201)
@rule("member", limit="model")
async def create_eval(request: Request, context: ContextDep, key: KeyDep, idempotency: IdempotencyDep) -> JSONAnswer:
    """Checks the criteria and keeps them."""
    given = await read_object(request)
    body = read(CreateEval, given)
    check_metadata(body.metadata, context.settings)
    new = await new_eval(context, body)
    creation = idempotency.creation("eval", key, given)
    row = await run_in_threadpool(context.store.evals.create, new, creation)
    return JSONAnswer(eval_json(row), status_code=201)


@router.get("")
@rule("read-only")
def list_evals(context: ContextDep, page: PageDep, order_by: OrderBy = "created_at") -> JSONAnswer:
    """The project's evals."""
    rows = context.store.evals.page(page, order_by)
    return JSONAnswer(id_listing([eval_json(row) for row in rows.data], rows.has_more))


@router.get("/{eval_id}")
@rule("read-only")
def retrieve_eval(eval_id: str, context: ContextDep) -> JSONAnswer:
    """One eval."""
    return JSONAnswer(eval_json(context.store.evals.get(eval_id)))


@router.post("/{eval_id}")
@rule("member")
async def update_eval(eval_id: str, request: Request, context: ContextDep) -> JSONAnswer:
    """Renames an eval, replaces its metadata."""
    body = read(UpdateEval, await read_object(request))
    check_metadata(body.metadata, context.settings)
    row = await run_in_threadpool(context.store.evals.update, eval_id, body.name, body.metadata)
    return JSONAnswer(eval_json(row))


@router.delete("/{eval_id}")
@rule("member")
def delete_eval(eval_id: str, context: ContextDep) -> JSONAnswer:
    """Deletes an eval with its runs."""
    context.store.evals.delete(eval_id)
    answer: EvalDeleted = {"object": "eval.deleted", "deleted": True, "eval_id": eval_id}
    return JSONAnswer(answer)


@router.post("/{eval_id}/runs", status_code=201)
@rule("member")
async def create_run(
    eval_id: str, request: Request, context: ContextDep, key: KeyDep, runs: EvalRunsDep, idempotency: IdempotencyDep
) -> JSONAnswer:
    """Checks the rows and queues a run."""
    given = await read_object(request, exact=True)
    body = read(CreateRun, given)
    check_metadata(body.metadata, context.settings)
    row = await run_in_threadpool(context.store.evals.get, eval_id)
    new, items = await run_in_threadpool(new_run, context, key, row, body)
    creation = idempotency.creation("eval_run", key, {"eval_id": eval_id, **given})
    most = context.settings.limit_unfinished_runs
    run = await run_in_threadpool(context.store.runs.create, new, items, creation, most=most)
    runs.wake()
    return JSONAnswer(run_json(run, row.testing_criteria, _origin(request)), status_code=201)


@router.get("/{eval_id}/runs")
@rule("read-only")
def list_runs(eval_id: str, request: Request, context: ContextDep, page: PageDep, status: Status = None) -> JSONAnswer:
    """The runs of an eval."""
    row = context.store.evals.get(eval_id)
    runs = context.store.runs.page(eval_id, page, status)
    shown = [run_json(run, row.testing_criteria, _origin(request)) for run in runs.data]
    return JSONAnswer(id_listing(shown, runs.has_more))


@router.get("/{eval_id}/runs/{run_id}")
@rule("read-only")
def retrieve_run(eval_id: str, run_id: str, request: Request, context: ContextDep) -> JSONAnswer:
    """One run."""
    row = context.store.evals.get(eval_id)
    return JSONAnswer(run_json(context.store.runs.get(eval_id, run_id), row.testing_criteria, _origin(request)))


@router.post("/{eval_id}/runs/{run_id}")
@router.post("/{eval_id}/runs/{run_id}/cancel")  # as today's clients ask, whatever the description says
@rule("member")
def cancel_run(eval_id: str, run_id: str, request: Request, context: ContextDep, runs: EvalRunsDep) -> JSONAnswer:
    """Cancels a run; what was answered stays."""
    row = context.store.evals.get(eval_id)
    run = context.store.runs.cancel(eval_id, run_id)
    runs.wake()
    return JSONAnswer(run_json(run, row.testing_criteria, _origin(request)))


@router.delete("/{eval_id}/runs/{run_id}")
@rule("member")
def delete_run(eval_id: str, run_id: str, context: ContextDep) -> JSONAnswer:
    """Deletes a run with its output items."""
    context.store.runs.delete(eval_id, run_id)
    answer: RunDeleted = {"object": "eval.run.deleted", "deleted": True, "run_id": run_id}
    return JSONAnswer(answer)


@router.get("/{eval_id}/runs/{run_id}/output_items")
@rule("read-only")
def list_output_items(
    eval_id: str, run_id: str, context: ContextDep, page: PageDep, status: Passed = None
) -> JSONAnswer:
    """The rows of a run that are done, in the order in which they were."""
    run = context.store.runs.get(eval_id, run_id)
    items = context.store.runs.items(run, page, status)
    return JSONAnswer(id_listing([item_json(item, eval_id) for item in items.data], items.has_more))


@router.get("/{eval_id}/runs/{run_id}/output_items/{output_item_id}")
@rule("read-only")
def retrieve_output_item(eval_id: str, run_id: str, output_item_id: str, context: ContextDep) -> JSONAnswer:
    """One row of a run."""
    run = context.store.runs.get(eval_id, run_id)
    return JSONAnswer(item_json(context.store.runs.item(run, output_item_id), eval_id))


def _origin(request: Request) -> str:
    return str(request.base_url).rstrip("/")
