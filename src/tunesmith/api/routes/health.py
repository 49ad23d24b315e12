"""/healthz: is this process able to answer? Needs no key."""

from fastapi import APIRouter

from tunesmith import __version__
from tunesmith.api.http.context import ContextDep
from tunesmith.api.http.json_answers import JSONAnswer

router = APIRouter(tags=["health"])


@router.get("/healthz")
def health(context: ContextDep) -> JSONAnswer:
    """200 once the database answers; a database that does not gives the 500 of any other fault."""
    context.store.jobs.page(limit=1)
    return JSONAnswer({"status": "ok", "version": __version__})
