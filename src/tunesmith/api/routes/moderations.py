"""POST /v1/moderations: texts moderated as training data is (docs/safety.md).

The answer's `model` names that moderator, whatever name of OpenAI's was asked for. A category that it does not cover
has the score 0 and no entry in `category_applied_input_types`; the header `x-tunesmith-not-covered` lists them.
"""

import secrets
from collections.abc import Sequence

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from tunesmith.api.http.body import read_object
from tunesmith.api.http.context import ContextDep
from tunesmith.api.http.json_answers import JSONAnswer
from tunesmith.api.http.rules import rule
from tunesmith.errors import InvalidRequest, ServerFault
from tunesmith.moderation.http import LOOP_HEADER
from tunesmith.moderation.moderator import CATEGORIES, CLEAN, Moderator, Verdict, open_moderator
from tunesmith.settings import Settings
from tunesmith.system.deadline import OutOfTime, time_limit
from tunesmith.wire.body import read
from tunesmith.wire.faults import shown
from tunesmith.wire.moderations import CreateModeration, Judged, Moderation

router = APIRouter()

MOST_SECONDS = 5.0  # of the word rules, which read a megabyte of ordinary text in a second

MODELS = (
    "omni-moderation-latest",
    "omni-moderation-2024-09-26",
    "text-moderation-latest",
    "text-moderation-stable",
    "text-moderation-007",
)


@router.post("/v1/moderations")
@rule("read-only", limit="model")
async def create_moderation(request: Request, context: ContextDep) -> JSONAnswer:
    """One result for each input."""
    body = read(CreateModeration, await read_object(request))
    _demand_known(body.model, context.settings)
    if context.settings.moderation_url is not None and LOOP_HEADER in request.headers:
        raise ServerFault(
            "The setting `moderation_url` of this server names this server itself, or one that asks it in turn. "
            "Name a service that judges by itself, or unset it for the offline rules.",
            param="moderation_url",
        )
    return await run_in_threadpool(_judged, context.settings, body.input)


def _judged(settings: Settings, texts: Sequence[str]) -> JSONAnswer:
    moderator = open_moderator(settings)  # the first time it reads all rules
    verdicts = _verdicts(moderator, texts)
    headers = {"x-tunesmith-not-covered": _not_covered(moderator, verdicts)}
    return JSONAnswer(answer(moderator, verdicts), headers=headers)


def _verdicts(moderator: Moderator, texts: Sequence[str]) -> list[Verdict | None]:
    try:
        with time_limit(MOST_SECONDS):
            return moderator.moderate(texts)
    except OutOfTime:
        raise InvalidRequest(
            f"Judging this took longer than {MOST_SECONDS:g} s. Send shorter texts, or fewer at once. - 'input'",
            param="input",
        ) from None


def _demand_known(model: object, settings: Settings) -> None:
    if model is not None and model not in MODELS and model != settings.moderation_model:
        raise InvalidRequest(
            f"{shown(model)} is not one of {list(MODELS)}; each stands for the moderator that this server is set to. "
            "Leave `model` out, or use one of these names. - 'model'",
            param="model",
            code="model_not_found",
        )


def answer(moderator: Moderator, verdicts: Sequence[Verdict | None]) -> Moderation:
    """OpenAI's shape, all 13 categories always."""
    covered = moderator.coverage.categories
    return {
        "id": f"modr-{secrets.token_hex(12)}",
        "model": moderator.name,
        "results": [_result(verdict or CLEAN, () if verdict is None else covered) for verdict in verdicts],
    }


def _result(verdict: Verdict, covered: Sequence[str]) -> Judged:
    return {
        "flagged": bool(verdict.flagged),
        "categories": {name: name in verdict.flagged for name in CATEGORIES},
        "category_scores": {name: float(verdict.scores.get(name, 0.0)) for name in CATEGORIES},
        "category_applied_input_types": {name: ["text"] if name in covered else [] for name in CATEGORIES},
    }


def _not_covered(moderator: Moderator, verdicts: Sequence[Verdict | None]) -> str:
    unread = sum(verdict is None for verdict in verdicts)
    names = list(moderator.coverage.missing)
    return ", ".join([*names, *([f"{unread} input(s) in a language it cannot read"] if unread else [])])
