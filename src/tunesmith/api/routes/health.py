"""/healthz: is this process able to answer? Needs no key.

It has threads of its own, so it answers while other calls hold all those that they share.
"""

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter

from tunesmith import __version__
from tunesmith.api.http.context import ProbeDep
from tunesmith.api.http.json_answers import JSONAnswer
from tunesmith.wire.lists import Health

router = APIRouter(tags=["health"])

_THREADS = CapacityLimiter(4)


@router.get("/healthz")
async def health(probe: ProbeDep) -> JSONAnswer:
    """Answers 200 once the database answers, else the 500 of any other fault."""
    await to_thread.run_sync(probe, limiter=_THREADS)
    answer: Health = {"status": "ok", "version": __version__}
    return JSONAnswer(answer)
