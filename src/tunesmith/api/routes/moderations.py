"""POST /v1/moderations: texts moderated by the moderator that also sees the training data (docs/safety.md).

The answer's `model` names that moderator, whatever name of OpenAI's was asked for. A category that it does not cover
has the score 0 and no entry in `category_applied_input_types`; the header `x-tunesmith-not-covered` lists them.
"""

import secrets
from collections.abc import Sequence

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from tunesmith.api.http.context import ContextDep
from tunesmith.api.http.errors import missing, shown, unknown_parameter
from tunesmith.api.http.json_answers import JSONAnswer
from tunesmith.api.routes.chat import read_json
from tunesmith.errors import InvalidRequest, ServerFault
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.moderation.http import LOOP_HEADER
from tunesmith.moderation.moderator import CATEGORIES, CLEAN, Moderator, Verdict, open_moderator
from tunesmith.settings import Settings

router = APIRouter()

MODELS = (
    "omni-moderation-latest",
    "omni-moderation-2024-09-26",
    "text-moderation-latest",
    "text-moderation-stable",
    "text-moderation-007",
)
MAX_INPUTS = 1024
MAX_CHARS = 1_000_000  # of one text


@router.post("/v1/moderations")
async def create_moderation(request: Request, context: ContextDep) -> JSONAnswer:
    texts = parse(await read_json(request), context.settings)
    if context.settings.moderation_url is not None and LOOP_HEADER in request.headers:
        raise ServerFault(
            "The setting `moderation_url` of this server names this server itself, or one that asks it in turn. "
            "Name a service that judges by itself, or unset it for the offline rules.",
            param="moderation_url",
        )
    moderator = open_moderator(context.settings)
    verdicts = await run_in_threadpool(moderator.moderate, texts)
    headers = {"x-tunesmith-not-covered": _not_covered(moderator, verdicts)}
    return JSONAnswer(answer(moderator, verdicts), headers=headers)


def parse(body: JsonValue, settings: Settings) -> list[str]:
    """The texts to moderate; InvalidRequest names what is wrong with the body."""
    if not isinstance(body, dict):
        raise InvalidRequest('The body must be a JSON object such as {"input": "text"}.')
    for key in body:
        if key not in ("input", "model"):
            raise unknown_parameter(key)
    model = body.get("model")
    if model is not None and model not in MODELS and model != settings.moderation_model:
        raise InvalidRequest(
            f"{shown(model)} is not one of {list(MODELS)}; each stands for the moderator that this server is set to. "
            "Leave `model` out, or use one of these names. - 'model'",
            param="model",
            code="model_not_found",
        )
    if body.get("input") is None:
        raise missing("input")
    return _inputs(body["input"])


def _inputs(value: JsonValue) -> list[str]:
    if isinstance(value, str):
        return [_text(value, "input")]
    if not isinstance(value, list) or not value:
        raise InvalidRequest(
            f"{shown(value)} is neither a text nor a list of texts or text parts. - 'input'", param="input"
        )
    if len(value) > MAX_INPUTS:
        raise InvalidRequest(f"{len(value)} inputs are given; at most {MAX_INPUTS} are judged at once.", param="input")
    if isinstance(value[0], dict):  # the parts of one input
        return ["\n".join(_part(part, f"input[{index}]") for index, part in enumerate(value))]
    return [_text(text, f"input[{index}]") for index, text in enumerate(value)]


def _text(value: JsonValue, param: str) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"{shown(value)} is not a text. - '{param}'", param=param)
    if len(value) > MAX_CHARS:
        raise InvalidRequest(f"The text has {len(value):,} characters; at most {MAX_CHARS:,} are judged.", param=param)
    return value


def _part(value: JsonValue, param: str) -> str:
    if not isinstance(value, dict) or value.get("type") not in ("text", "image_url"):
        raise InvalidRequest(f'{shown(value)} is not a part such as {{"type": "text", "text": "..."}}.', param=param)
    if value["type"] == "image_url":
        raise InvalidRequest("Images are not judged by this server; send text parts only.", param=param)
    return _text(value.get("text"), f"{param}.text")


def answer(moderator: Moderator, verdicts: Sequence[Verdict | None]) -> JsonObject:
    """OpenAI's shape, all 13 categories always."""
    covered = moderator.coverage.categories
    return {
        "id": f"modr-{secrets.token_hex(12)}",
        "model": moderator.name,
        "results": [_result(verdict or CLEAN, () if verdict is None else covered) for verdict in verdicts],
    }


def _result(verdict: Verdict, covered: Sequence[str]) -> JsonObject:
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
