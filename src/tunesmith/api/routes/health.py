"""/healthz: is this process able to answer? Needs no key."""

from fastapi import APIRouter

from tunesmith import __version__
from tunesmith.api.http.context import ProbeDep
from tunesmith.api.http.json_answers import JSONAnswer
from tunesmith.wire.lists import Health

router = APIRouter(tags=["health"])


@router.get("/healthz")
def health(probe: ProbeDep) -> JSONAnswer:
    """Answers 200 once the database answers, else the 500 of any other fault."""
    probe()
    answer: Health = {"status": "ok", "version": __version__}
    return JSONAnswer(answer)
