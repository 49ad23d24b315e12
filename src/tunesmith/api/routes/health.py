"""/healthz: is this process able to answer? Needs no key."""

from fastapi import APIRouter, Request

from tunesmith import __version__
from tunesmith.api.http.context import ProbeDep
from tunesmith.api.http.json_answers import JSONAnswer
from tunesmith.wire.lists import Health

router = APIRouter(tags=["health"])


@router.get("/healthz")
def health(probe: ProbeDep, request: Request) -> JSONAnswer:
    """Answers 200 once the database answers, else the 500 of any other fault.

    `worker` is there only while no worker runs although one should; it says why.
    """
    probe()
    answer: Health = {"status": "ok", "version": __version__}
    fault = getattr(request.app.state, "worker_fault", lambda: None)()
    if fault is not None:
        answer["worker"] = fault
    return JSONAnswer(answer)
