"""POST /v1/chat/completions, plain and streamed.

Also under the path that openai 0.28 uses with `engine=`.

Never a 409: openai 0.28.1 would repeat the request forever.
"""

from collections.abc import AsyncIterator
from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from tunesmith.api.http.body import read_object
from tunesmith.api.http.chat_storage import ChatStorage, storage_for
from tunesmith.api.http.context import Context, ContextDep
from tunesmith.api.http.json_answers import JSONAnswer
from tunesmith.api.http.models import ADAPTER_HEADER, open_model, while_opening
from tunesmith.api.http.replies import collect
from tunesmith.api.http.rules import rule
from tunesmith.api.http.sse import EventStream
from tunesmith.api.middleware.metering import meter
from tunesmith.api.middleware.rate_limits import count_choices
from tunesmith.api.views.chat import Head, completion, piece_chunks, role_chunk, usage_chunk
from tunesmith.jsonvalue import JsonObject
from tunesmith.serve.chat.answer import Piece, Reply, start_chat
from tunesmith.serve.chat.request import Options, chat_request
from tunesmith.wire.body import read
from tunesmith.wire.chat.answers import Chunk
from tunesmith.wire.chat.bodies import Chat

router = APIRouter()


@router.post("/v1/chat/completions")
@rule("read-only", limit="model")
async def create_chat_completion(request: Request, context: ContextDep) -> Response:
    """A completion, or a stream of its chunks."""
    return await _answer(request, context, await read_object(request))


@router.post("/v1/engines/{model:path}/chat/completions")
@rule("read-only", limit="model")
async def create_engine_chat_completion(model: str, request: Request, context: ContextDep) -> Response:
    """The same, with the model named by the URL."""
    return await _answer(request, context, await read_object(request, model))


async def _answer(request: Request, context: Context, body: JsonObject) -> Response:
    chat = read(Chat, body)
    count_choices(request, chat.n or 1)
    storage = storage_for(request, context, chat, body)
    options, head, reply = await while_opening(context, partial(_start, context, chat, storage))
    meter(request, head.model, reply)
    headers = {ADAPTER_HEADER: reply.tuned}
    if options.stream:
        return EventStream(_chunks(head, reply, options.n, storage), reply.close, headers)
    pieces = await collect(reply, request)
    answer = completion(head, pieces, reply.usage, options.n)
    if storage is not None:
        await storage.add(answer)
    return JSONAnswer(answer, headers=headers)


def _start(context: Context, chat: Chat, storage: ChatStorage | None) -> tuple[Options, Head, Reply]:
    if storage is not None:
        storage.demand_room()
    request = chat_request(chat)
    name, loaded = open_model(context, request.model)
    reply = start_chat(request, loaded, context.settings.chat_max_tokens)
    head = Head(
        model=name,
        fingerprint=reply.fingerprint,
        legacy_functions=request.tools.legacy,
        logprobs=request.top_logprobs is not None,
        include_usage=request.options.include_usage,
    )
    return request.options, head, reply


async def _chunks(head: Head, reply: Reply, n: int, storage: ChatStorage | None) -> AsyncIterator[Chunk]:
    """The chunks. None comes before the engine's first piece, so that its faults can become an ordinary error."""
    kept: list[Piece] = []
    pieces = reply.pieces_async() if storage is None else _noted(reply.pieces_async(), kept)
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
    if storage is not None:  # before [DONE], so that a client that has read it can find the completion
        await storage.add(completion(head, kept, reply.usage, n))


async def _noted(pieces: AsyncIterator[Piece], notes: list[Piece]) -> AsyncIterator[Piece]:
    async for piece in pieces:
        notes.append(piece)
        yield piece
