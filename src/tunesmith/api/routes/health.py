"""/healthz: is this process able to answer? Needs no key.

It has threads of its own, so it answers while other calls hold all those that they share.
"""

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Request

from tunesmith import __version__
from tunesmith.api.http.context import ProbeDep
from tunesmith.api.http.json_answers import JSONAnswer
from tunesmith.wire.lists import Health

router = APIRouter(tags=["health"])

_THREADS = CapacityLimiter(4)


@router.get("/healthz")
async def health(probe: ProbeDep, request: Request) -> JSONAnswer:
    """Answers 200 once the database answers, else the 500 of any other fault.

    `worker` is there only while no worker runs although one should; it says why.
    """
    await to_thread.run_sync(probe, limiter=_THREADS)
    answer: Health = {"status": "ok", "version": __version__}
    fault = getattr(request.app.state, "worker_fault", lambda: None)()
    if fault is not None:
        answer["worker"] = fault
    return JSONAnswer(answer)
