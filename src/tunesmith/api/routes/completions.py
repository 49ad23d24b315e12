"""POST /v1/completions, the older API: text in, text out.

Also under the path that openai 0.28 uses with `engine=`.
"""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from typing import cast

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from tunesmith.api.http.body import read_object
from tunesmith.api.http.context import Context, ContextDep
from tunesmith.api.http.json_answers import JSONAnswer
from tunesmith.api.http.models import ADAPTER_HEADER, open_model, while_opening
from tunesmith.api.http.replies import collect
from tunesmith.api.http.rules import rule
from tunesmith.api.http.sse import EventStream
from tunesmith.api.middleware.metering import meter
from tunesmith.api.middleware.rate_limits import count_choices
from tunesmith.api.views.chat import usage_json
from tunesmith.jsonvalue import JsonObject
from tunesmith.serve.chat.answer import Piece, TokenLogprob, Usage, random_id
from tunesmith.serve.chat.completion import (
    CompletionRequest,
    Continuation,
    completion_request,
    likeliest,
    start_completions,
)
from tunesmith.wire.body import read
from tunesmith.wire.completions import (
    CreateCompletion,
    TextChoice,
    TextChunk,
    TextCompletion,
    TextFinish,
    TextLogprobs,
)

router = APIRouter()


@dataclass(frozen=True, slots=True)
class Started:
    """A request under way, with one reply per prompt."""

    request: CompletionRequest
    model: str
    replies: list[Continuation]  # one per prompt
    tuned: str  # the digest of the tuned weights that answer
    id: str = field(default_factory=lambda: random_id("cmpl-", 29))
    created: int = field(default_factory=lambda: int(time.time()))

    def close(self) -> None:
        """Stops all replies."""
        for reply in self.replies:
            reply.close()

    @property
    def usage(self) -> Usage:
        """The tokens of all replies together."""
        usages = [reply.usage for reply in self.replies]
        return Usage(
            sum(usage.prompt_tokens for usage in usages),
            sum(usage.completion_tokens for usage in usages),
            sum(usage.cached_tokens for usage in usages),
        )


@router.post("/v1/completions")
@rule("read-only", limit="model")
async def create_completion(request: Request, context: ContextDep) -> Response:
    """The continuations, or a stream of their chunks."""
    return await _answer(request, context, await read_object(request))


@router.post("/v1/engines/{model:path}/completions")
@rule("read-only", limit="model")
async def create_engine_completion(model: str, request: Request, context: ContextDep) -> Response:
    """The same, with the model named by the URL."""
    return await _answer(request, context, await read_object(request, model))


async def _answer(request: Request, context: Context, body: JsonObject) -> Response:
    asked = completion_request(read(CreateCompletion, body))
    count_choices(request, asked.best_of * len(asked.prompts))
    started = await while_opening(context, partial(_start, context, asked))
    meter(request, started.model, started)
    if started.request.options.stream:
        return EventStream(_chunks(started), started.close, {ADAPTER_HEADER: started.tuned})
    try:
        collected = [await collect(reply, request) for reply in started.replies]
    finally:
        started.close()
    return await run_in_threadpool(_written, started, collected)


def _written(started: Started, collected: list[list[Piece]]) -> JSONAnswer:
    """The answer. With thousands of choices it takes long to write, so not on the event loop."""
    choices: list[TextChoice] = []
    for pieces in collected:
        made: list[list[Piece]] = [[] for _ in range(started.request.best_of)]
        for piece in pieces:
            made[piece.choice].append(piece)
        for own in likeliest(made, started.request.options.n):
            choices.append(_choice(started, len(choices), own))
    return JSONAnswer(_whole(started, choices), headers={ADAPTER_HEADER: started.tuned})


def _start(context: Context, request: CompletionRequest) -> Started:
    name, loaded = open_model(context, request.model)
    return Started(request, name, start_completions(request, loaded), loaded.tuned)


async def _chunks(started: Started) -> AsyncIterator[TextChunk]:
    """Prompt after prompt; later ones are generated meanwhile."""
    n, include_usage = started.request.options.n, started.request.options.include_usage
    for number, reply in enumerate(started.replies):
        async for piece in reply.pieces_async():
            chunk = _chunk(started, [_choice(started, number * n + piece.choice, [piece])])
            if include_usage:
                chunk["usage"] = None
            yield chunk
    if include_usage:
        last = _chunk(started, [])
        last["usage"] = usage_json(started.usage)
        yield last


def _chunk(started: Started, choices: list[TextChoice]) -> TextChunk:
    return {
        "id": started.id,
        "object": "text_completion",
        "created": started.created,
        "choices": choices,
        "model": started.model,
    }


def _whole(started: Started, choices: list[TextChoice]) -> TextCompletion:
    return {
        "id": started.id,
        "object": "text_completion",
        "created": started.created,
        "model": started.model,
        "choices": choices,
        "usage": usage_json(started.usage),
    }


def _choice(started: Started, index: int, pieces: list[Piece]) -> TextChoice:
    entries = [entry for piece in pieces for entry in piece.logprobs]
    return {
        "text": "".join(piece.text for piece in pieces),
        "index": index,
        "logprobs": _logprobs(entries) if started.request.top_logprobs is not None else None,
        "finish_reason": cast(TextFinish | None, pieces[-1].finish) if pieces else None,
    }


def _logprobs(entries: list[TokenLogprob]) -> TextLogprobs:
    return {
        "text_offset": [entry.offset for entry in entries],
        "token_logprobs": [entry.logprob for entry in entries],
        "tokens": [entry.token for entry in entries],
        "top_logprobs": [_top(entry) for entry in entries],
    }


def _top(entry: TokenLogprob) -> dict[str, float | None] | None:
    """Log-probabilities by text, always with the chosen token. Of tokens with the same text, the likelier counts."""
    if entry.logprob is None:
        return None
    top: dict[str, float | None] = {}
    for one in (*entry.top, entry):
        top.setdefault(one.token, one.logprob)
    return top
