"""Fine-tuning jobs: create, list, control, events and checkpoints.

Everything about a request is checked before anything is written. What only reading the files can tell (fewer than ten
examples, a broken line) fails the job within seconds, as OpenAI does since 2024: the client sees a job and its error.
"""

from typing import Annotated

from fastapi import APIRouter, Body

from tunesmith.api.http.body import JsonRoute
from tunesmith.api.http.context import Context, ContextDep, KeyDep
from tunesmith.api.http.idempotency import IdempotencyDep
from tunesmith.api.http.json_answers import JSONAnswer
from tunesmith.api.http.paging import After, Limit, MetadataFilter, id_listing, listing
from tunesmith.api.http.rules import rule
from tunesmith.api.new_job import new_job
from tunesmith.api.views.jobs import checkpoint_json, event_json, job_json
from tunesmith.store import JobRow, JobStatus
from tunesmith.store.queue.jobs import no_job
from tunesmith.wire.jobs import CreateJob

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["fine-tuning"], route_class=JsonRoute)


@router.post("")
@rule("member")
def create_job(
    request: Annotated[CreateJob, Body()], context: ContextDep, key: KeyDep, idempotency: IdempotencyDep
) -> JSONAnswer:
    """Checks the request and queues a job."""
    job = new_job(request, context, key)
    creation = idempotency.creation("job", key, request.model_dump(mode="json"))
    most = context.settings.limit_unfinished_jobs
    return JSONAnswer(job_json(context.store.jobs.create(job, creation, most=most)))


@router.get("")
@rule("read-only")
def list_jobs(
    context: ContextDep,
    after: After,
    metadata: MetadataFilter,
    limit: Limit = 20,
) -> JSONAnswer:
    """The project's jobs, optionally those with certain metadata."""
    rows = context.store.jobs.page(
        limit=limit, after=after, metadata=dict(metadata or {}) or None, without_metadata=metadata is None
    )
    return JSONAnswer(listing([job_json(row) for row in rows.data], rows.has_more))


@router.get("/{job_id}")
@rule("read-only")
def retrieve_job(job_id: str, context: ContextDep) -> JSONAnswer:
    """One job."""
    return JSONAnswer(job_json(_find(context, job_id)))


@router.post("/{job_id}/cancel")
@rule("member")
def cancel_job(job_id: str, context: ContextDep, idempotency: IdempotencyDep) -> JSONAnswer:
    """Cancels a job.

    A client that repeats the call by itself, because the answer was lost, gets that answer.
    """
    if idempotency.is_retry and (job := _find(context, job_id)).status is JobStatus.CANCELLED:
        return JSONAnswer(job_json(job))
    return JSONAnswer(job_json(context.store.jobs.cancel(job_id)))


@router.post("/{job_id}/pause")
@rule("member")
def pause_job(job_id: str, context: ContextDep) -> JSONAnswer:
    """Pauses a job; its progress is kept."""
    return JSONAnswer(job_json(context.store.jobs.pause(job_id)))


@router.post("/{job_id}/resume")
@rule("member")
def resume_job(job_id: str, context: ContextDep, idempotency: IdempotencyDep) -> JSONAnswer:
    """Resumes a paused job. Repeated calls are handled as in `cancel_job`."""
    if idempotency.is_retry and not (job := _find(context, job_id)).paused:
        return JSONAnswer(job_json(job))
    return JSONAnswer(job_json(context.store.jobs.resume(job_id)))


@router.get("/{job_id}/events")
@rule("read-only")
def list_events(job_id: str, context: ContextDep, after: After, limit: Limit = 20) -> JSONAnswer:
    """What has happened to a job."""
    _find(context, job_id)
    rows = context.store.jobs.events(job_id, limit=limit, after=after)
    return JSONAnswer(listing([event_json(row) for row in rows.data], rows.has_more))


@router.get("/{job_id}/checkpoints")
@rule("read-only")
def list_checkpoints(job_id: str, context: ContextDep, after: After, limit: Limit = 10) -> JSONAnswer:
    """The models that a job kept on its way."""
    job = _find(context, job_id)
    rows = context.store.jobs.checkpoints(job_id, limit=limit, after=after)
    return JSONAnswer(id_listing([checkpoint_json(row, job) for row in rows.data], rows.has_more))


def _find(context: Context, job_id: str) -> JobRow:
    row = context.store.jobs.get(job_id)
    if row is None:
        raise no_job(job_id)
    return row
