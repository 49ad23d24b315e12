"""POST /v1/fine_tuning/alpha/graders/validate and /run: is a grader well-formed, and what does it give a sample?

A wrong grader is a 400. A run that finds no score for this sample is a 200 with the reward 0, the reason among
`metadata.errors` and, since most of those are only true or false, as a sentence in `x-tunesmith-grader-fault`.
"""

import time
from dataclasses import dataclass

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from tunesmith.api.http.context import Context, ContextDep
from tunesmith.api.http.errors import missing, unknown_parameter
from tunesmith.api.http.json_answers import JSONAnswer
from tunesmith.api.middleware.metering import meter
from tunesmith.api.routes.chat import base_of, collect, open_model, read_json
from tunesmith.errors import InvalidRequest, ServerFault
from tunesmith.graders.formula import FormulaResultError
from tunesmith.graders.grader import Grader, Leaf, Multi, ScoreModel, combine, leaves, read_grader, score
from tunesmith.graders.results import Record, Tokens, read_score, result
from tunesmith.graders.templates import NoValue, Variables, fill
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.serve.chat.answer import Reply, Usage, start_chat
from tunesmith.serve.chat.request import parse_chat_request

router = APIRouter(prefix="/v1/fine_tuning/alpha/graders")

FAULT_HEADER = "x-tunesmith-grader-fault"
MAX_FAULT = 500  # characters of that header


@dataclass(frozen=True, slots=True)
class Spent:
    """What all models of one run took; `meter` reads it when the answer has ended."""

    record: Record

    @property
    def usage(self) -> Usage:
        total = sum(self.record.tokens.values(), Tokens(0, 0))
        return Usage(total.prompt, total.completion, total.cached)


@router.post("/validate")
async def validate_grader(request: Request, context: ContextDep) -> JSONAnswer:
    body = _object(await read_json(request), ("grader",))
    await run_in_threadpool(_check_models, context, read_grader(body["grader"]))
    return JSONAnswer({"grader": body["grader"]})


@router.post("/run")
async def run_grader(request: Request, context: ContextDep) -> JSONAnswer:
    body = _object(await read_json(request), ("grader", "model_sample", "item"))
    grader, variables = read_grader(body["grader"]), _variables(body)
    await run_in_threadpool(_check_models, context, grader)
    record, begun = Record(), time.perf_counter()
    for called, leaf in leaves(grader).items():
        await _grade(called, leaf, variables, record, request, context)
    if not record.faults:
        _reward(grader, record)
    answer = result(grader, record, time.perf_counter() - begun)
    return JSONAnswer(answer, headers=_fault_header(record))


def _object(body: JsonValue, known: tuple[str, ...]) -> JsonObject:
    if not isinstance(body, dict):
        raise InvalidRequest('The body must be a JSON object such as {"grader": {...}}.')
    for key in body:
        if key not in known:
            raise unknown_parameter(key)
    if body.get("grader") is None:
        raise missing("grader")
    return body


def _variables(body: JsonObject) -> Variables:
    sample, item = body.get("model_sample"), body.get("item")
    if sample is None:
        raise missing("model_sample")
    if not isinstance(sample, str):
        raise InvalidRequest("The model sample is a text. - 'model_sample'", param="model_sample")
    if item is not None and not isinstance(item, dict):
        raise InvalidRequest("The item is a JSON object, a row of a dataset. - 'item'", param="item")
    return Variables(sample, item or {})


def _check_models(context: Context, grader: Grader) -> None:
    """404 for a model that is not there; loads none."""
    for leaf in leaves(grader).values():
        if isinstance(leaf, ScoreModel) and context.store.models.resolve(leaf.model) is None:
            base_of(leaf.model, context)


async def _grade(
    called: str, leaf: Leaf, variables: Variables, record: Record, request: Request, context: Context
) -> None:
    try:
        if isinstance(leaf, ScoreModel):
            found = await _ask(leaf, variables, record, request, context)
        else:
            found = await run_in_threadpool(score, leaf, variables)
    except NoValue as fault:
        record.faults[fault.flag] = fault.message
    except ServerFault as fault:  # of the model's engine
        record.faults["model_grader_server_error"] = fault.message
    else:
        if found is not None:
            record.scores[called] = found


async def _ask(
    leaf: ScoreModel, variables: Variables, record: Record, request: Request, context: Context
) -> float | None:
    """The score that the model wrote; None, with a fault recorded, where it wrote none within the range."""
    place = f"{leaf.name}.input"
    messages: list[JsonValue] = [
        {"role": role, "content": fill(text, variables, place)} for role, text in leaf.messages
    ]
    body: JsonObject = {"model": leaf.model, "messages": messages, **leaf.sampling}
    name, reply = await run_in_threadpool(_start, context, body)
    if not record.tokens:
        meter(request, name, Spent(record))
    try:
        text = "".join([piece.text for piece in await collect(reply, request)])
    finally:
        used = reply.usage
        record.spend(name, Tokens(used.prompt_tokens, used.completion_tokens, used.cached_tokens))
    found = read_score(text)
    if found is not None and leaf.low <= found <= leaf.high:
        return found
    record.faults["model_grader_parse_error"] = (
        f"{name} should have written one number from {leaf.low:g} to {leaf.high:g} and wrote {text[:200]!r}."
    )
    return None


def _start(context: Context, body: JsonObject) -> tuple[str, Reply]:
    request = parse_chat_request(body)
    name, opened = open_model(context, request.model)
    return name, start_chat(request, opened, context.settings.chat_max_tokens)


def _reward(grader: Grader, record: Record) -> None:
    if not isinstance(grader, Multi):
        record.reward = record.scores[grader.name]
        return
    try:
        record.reward = combine(grader, record.scores)
    except FormulaResultError as fault:
        record.faults["other_error"] = fault.message


def _fault_header(record: Record) -> dict[str, str]:
    sentence = " ".join(record.faults.values())[:MAX_FAULT]
    printable = "".join(one if " " <= one <= "~" else "?" for one in sentence)
    return {FAULT_HEADER: printable} if printable else {}
