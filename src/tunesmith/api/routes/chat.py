"""POST /v1/chat/completions, plain and streamed; also under the path that openai 0.28 uses with `engine=`.

Never a 409: openai 0.28.1 would repeat the request for ever.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import orjson
from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from tunesmith.api.http.chat_storage import Keeper, keeper
from tunesmith.api.http.context import Context, ContextDep
from tunesmith.api.http.json_answers import JSONAnswer
from tunesmith.api.http.sse import EventStream, close_on_disconnect
from tunesmith.api.middleware.metering import meter
from tunesmith.api.views.chat import Head, completion, piece_chunks, role_chunk, usage_chunk
from tunesmith.errors import InvalidRequest, NotFound, ServerFault
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.models.directory import materialise
from tunesmith.models.registry import BaseModel, resolve_base
from tunesmith.models.tuned import own_base
from tunesmith.serve.chat.answer import Piece, Reply, start_chat
from tunesmith.serve.chat.completion import Continuation
from tunesmith.serve.chat.request import Options, parse_chat_request
from tunesmith.serve.pool import Opened

router = APIRouter()


@router.post("/v1/chat/completions")
async def create_chat_completion(request: Request, context: ContextDep) -> Response:
    return await _answer(request, context, await read_json(request))


@router.post("/v1/engines/{model:path}/chat/completions")
async def create_engine_chat_completion(model: str, request: Request, context: ContextDep) -> Response:
    return await _answer(request, context, await read_engine_json(request, model))


async def read_engine_json(request: Request, model: str) -> JsonValue:
    """The body of a call whose URL names the model."""
    body = await read_json(request)
    return {**body, "model": model} if isinstance(body, dict) else body


async def read_json(request: Request) -> JsonValue:
    body = await request.body()
    try:
        value: JsonValue = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The request body is not valid JSON ({error}). Send a JSON object in UTF-8.") from error
    return value


def open_model(context: Context, name: str) -> tuple[str, Opened]:
    """(name to answer with, model): a tuned model or checkpoint, a base, or an alias of one. May take seconds."""
    resolved, opened = _open(context, name)
    return resolved, replace(opened, project=context.project)


def _open(context: Context, name: str) -> tuple[str, Opened]:
    tuned = context.store.models.resolve(name)
    if tuned is None:
        base = base_of(name, context)
        return base.name, context.pool.open(materialise(base, context.settings), base_name=base.name)
    own = None if tuned.adapter_dir is None else own_base(tuned.adapter_dir)
    if own is not None:
        return tuned.name, context.pool.open(own, tuned.adapter_dir)
    try:
        base = resolve_base(tuned.base_model, context.settings)
    except InvalidRequest as error:
        raise ServerFault(
            f"The base {tuned.base_model!r} of {name!r} is no longer configured. Add it to the setting `bases` again."
        ) from error
    return tuned.name, context.pool.open(materialise(base, context.settings), tuned.adapter_dir, base.name)


async def _answer(request: Request, context: Context, body: JsonValue) -> Response:
    keep = keeper(request, context, body)
    options, head, reply = await run_in_threadpool(_start, context, body)
    meter(request, head.model, reply)
    if options.stream:
        return EventStream(_chunks(head, reply, options.n, keep), reply.close)
    pieces = await collect(reply, request)
    answer = completion(head, pieces, reply.usage, options.n)
    if keep is not None:
        await keep.keep(answer)
    return JSONAnswer(answer)


async def collect(reply: Reply | Continuation, request: Request) -> list[Piece]:
    """The whole reply; a client that goes away ends it."""
    watch = asyncio.create_task(close_on_disconnect(request.receive, reply.close))
    try:
        return [piece async for piece in reply.pieces_async()]
    finally:
        reply.close()
        watch.cancel()


def _start(context: Context, body: JsonValue) -> tuple[Options, Head, Reply]:
    request = parse_chat_request(body)
    name, opened = open_model(context, request.model)
    reply = start_chat(request, opened, context.settings.chat_max_tokens)
    head = Head(
        model=name,
        fingerprint=reply.fingerprint,
        legacy_functions=request.tools.legacy,
        logprobs=request.top_logprobs is not None,
        include_usage=request.options.include_usage,
    )
    return request.options, head, reply


async def _chunks(head: Head, reply: Reply, n: int, keep: Keeper | None) -> AsyncIterator[JsonObject]:
    """Nothing before the engine's first piece, so that its faults can still become an ordinary error answer."""
    kept: list[Piece] = []
    pieces = reply.pieces_async() if keep is None else _noted(reply.pieces_async(), kept)
    waiting: Piece | None = await anext(pieces, None)
    for choice in range(n):
        yield role_chunk(head, choice)
    if waiting is not None:
        for chunk in piece_chunks(head, waiting):
            yield chunk
    async for piece in pieces:
        for chunk in piece_chunks(head, piece):
            yield chunk
    if head.include_usage:
        yield usage_chunk(head, reply.usage)
    if keep is not None:  # after the last byte of the answer, before [DONE]: who has read that finds it
        await keep.keep(completion(head, kept, reply.usage, n))


async def _noted(pieces: AsyncIterator[Piece], notes: list[Piece]) -> AsyncIterator[Piece]:
    async for piece in pieces:
        notes.append(piece)
        yield piece


def base_of(name: str, context: Context) -> BaseModel:
    try:
        return resolve_base(name, context.settings)
    except InvalidRequest as error:
        raise NotFound(f"The model '{name}' does not exist", param="model", code="model_not_found") from error
