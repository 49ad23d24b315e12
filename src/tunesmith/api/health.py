"""/healthz: is this process able to answer? Needs no key."""

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from tunesmith import __version__
from tunesmith.api.context import ContextDep

router = APIRouter(tags=["health"])


@router.get("/healthz")
def health(context: ContextDep) -> JSONResponse:
    """200 once the database answers; a database that does not gives the 500 of any other fault."""
    context.store.jobs.page(limit=1)
    return JSONResponse({"status": "ok", "version": __version__})
