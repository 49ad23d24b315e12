"""A model's reply, collected whole."""

import asyncio

from fastapi import Request

from tunesmith.api.http.sse import close_on_disconnect
from tunesmith.serve.chat.answer import Piece, Reply
from tunesmith.serve.chat.completion import Continuation


async def collect(reply: Reply | Continuation, request: Request) -> list[Piece]:
    """The whole reply; a client that goes away ends it."""
    watch = asyncio.create_task(close_on_disconnect(request.receive, reply.close))
    try:
        return [piece async for piece in reply.pieces_async()]
    finally:
        reply.close()
        watch.cancel()
