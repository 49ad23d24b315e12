"""Graders: check whether one is well-formed, and let it score a sample.

POST /v1/fine_tuning/alpha/graders/validate and /run.

A wrong grader is a 400. A run that finds no score for this sample is a 200 with the reward 0, the reason among
`metadata.errors` and, since most of those are only true or false, as a sentence in `x-tunesmith-grader-fault`.
"""

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import cast

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from tunesmith.api.http.body import read_object
from tunesmith.api.http.context import Context, ContextDep
from tunesmith.api.http.json_answers import JSONAnswer
from tunesmith.api.http.models import base_of, open_model
from tunesmith.api.http.replies import collect
from tunesmith.api.http.rules import rule
from tunesmith.api.http.sse import close_on_disconnect
from tunesmith.api.middleware.metering import meter
from tunesmith.graders.grader import Grader, LabelModel, ModelGrader, ScoreModel, leaves, read_grader
from tunesmith.graders.python_code import InJail, PythonFault, PythonGrader, check_python, jail_limits
from tunesmith.graders.results import Record, Tokens, result
from tunesmith.graders.runner import Helpers, Messages, Wrote, run
from tunesmith.graders.templates import Variables
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.serve.chat.answer import Reply, Usage, start_chat
from tunesmith.serve.chat.request import chat_request
from tunesmith.serve.embeddings.cosine import check_cosine, cosine_of
from tunesmith.wire.body import read
from tunesmith.wire.chat.bodies import Chat
from tunesmith.wire.graders import RunGrader, ValidatedGrader, ValidateGrader
from tunesmith.wire.lists import Anything

router = APIRouter(prefix="/v1/fine_tuning/alpha/graders")

FAULT_HEADER = "x-tunesmith-grader-fault"
MAX_FAULT = 500  # characters of that header


@dataclass(frozen=True, slots=True)
class Spent:
    """What all models of one run took; `meter` reads it when the answer has ended."""

    record: Record

    @property
    def usage(self) -> Usage:
        """The tokens of all models together."""
        total = sum(self.record.tokens.values(), Tokens(0, 0))
        return Usage(total.prompt, total.completion, total.cached)


@router.post("/validate")
@rule("read-only", limit="model")
async def validate_grader(request: Request, context: ContextDep) -> JSONAnswer:
    """The grader itself; 400 for a wrong one, 404 for one whose model is not there."""
    body = read(ValidateGrader, await read_object(request))
    grader = read_grader(cast(JsonValue, body.grader))
    await _check_leaves(context, grader)
    answer: ValidatedGrader = {"grader": {"name": grader.name, **cast(Anything, body.grader)}}
    return JSONAnswer(answer)


@router.post("/run")
@rule("read-only", limit="model")
async def run_grader(request: Request, context: ContextDep) -> JSONAnswer:
    """The reward of one sample."""
    body = read(RunGrader, await read_object(request, exact=True))
    grader = read_grader(cast(JsonValue, body.grader))
    variables = Variables(body.model_sample, cast(JsonObject, body.item))
    await _check_leaves(context, grader)
    record, begun = Record(), time.perf_counter()

    async def ask(leaf: ModelGrader, messages: Messages, record: Record) -> Wrote:
        return await _ask(leaf, messages, record, request, context)

    async def python(leaf: PythonGrader, variables: Variables) -> float:
        in_jail = InJail(jail_limits(context.settings), context.project)
        return await _unless_gone(in_jail(leaf, variables), request)

    await run(grader, variables, record, Helpers(ask, python, cosine_of(context.settings)))
    answer = result(grader, record, time.perf_counter() - begun)
    return JSONAnswer(answer, headers=_fault_header(record))


async def _check_leaves(context: Context, grader: Grader) -> None:
    """404 for a model that is not there, 400 for code that is no grader; loads no model, runs no code."""
    check_cosine(grader, context.settings)
    await run_in_threadpool(_check_models, context, grader)
    for leaf in leaves(grader).values():
        if isinstance(leaf, PythonGrader):
            await check_python(leaf, jail_limits(context.settings), context.project)


def _check_models(context: Context, grader: Grader) -> None:
    """404 for a model that is not there; loads none."""
    for leaf in leaves(grader).values():
        if isinstance(leaf, ScoreModel | LabelModel) and context.store.models.resolve(leaf.model) is None:
            base_of(context, leaf.model)


async def _ask(leaf: ModelGrader, messages: Messages, record: Record, request: Request, context: Context) -> Wrote:
    """What the grader's model wrote. What that took is added to the record, however it ended."""
    name, reply = await run_in_threadpool(_start, context, leaf, messages)
    if not record.tokens:
        meter(request, name, Spent(record))
    try:
        pieces = await collect(reply, request)
        cut = any(piece.finish == "length" for piece in pieces)
        return Wrote(name, "".join([piece.text for piece in pieces]), cut)
    finally:
        used = reply.usage
        record.spend(name, Tokens(used.prompt_tokens, used.completion_tokens, used.cached_tokens))


def _start(context: Context, leaf: ModelGrader, messages: Messages) -> tuple[str, Reply]:
    turns: list[JsonValue] = [{"role": role, "content": text} for role, text in messages]
    request = chat_request(read(Chat, {"model": leaf.model, "messages": turns, **leaf.sampling}))
    name, loaded = open_model(context, leaf.model)
    return name, start_chat(request, loaded, context.settings.chat_max_tokens)


async def _unless_gone(score: Coroutine[None, None, float], request: Request) -> float:
    """The score; a client that goes away ends the grader."""
    call = asyncio.create_task(score)

    def leave() -> None:
        call.cancel()

    watch = asyncio.create_task(close_on_disconnect(request.receive, leave))
    try:
        await asyncio.wait([call])
        if call.cancelled():
            raise PythonFault("The client has gone.", "other_error")
        return call.result()
    finally:
        call.cancel()
        watch.cancel()


def _fault_header(record: Record) -> dict[str, str]:
    faults = [fault for flag, fault in record.faults.items() if not flag.endswith("_type")]
    sentence = " ".join(" ".join(faults).split())[:MAX_FAULT]
    printable = "".join(one if " " <= one <= "~" else "?" for one in sentence)
    return {FAULT_HEADER: printable} if printable else {}
