"""Answers that are being streamed when the server stops."""

import asyncio
import json
from collections.abc import AsyncIterator

from starlette.types import Message, Scope

from tunesmith.api.http.sse import EventStream, cut_streams, open_streams


async def never() -> Message:
    await asyncio.Event().wait()
    return {"type": "http.disconnect"}


def test_a_stopping_server_ends_open_streams_with_an_error_event() -> None:
    sent: list[bytes] = []
    closed = asyncio.Event()

    async def events() -> AsyncIterator[dict[str, object]]:
        number = 0
        while not closed.is_set():  # for ever, until somebody closes it
            yield {"number": number}
            number += 1
            await asyncio.sleep(0.001)

    async def send(message: Message) -> None:
        sent.append(message.get("body", b""))

    async def run() -> list[int]:
        scope: Scope = {"type": "http"}
        streams = [asyncio.create_task(EventStream(events(), closed.set)(scope, never, send)) for _ in range(2)]
        while len(sent) < 20:
            await asyncio.sleep(0.001)
        counts = [open_streams()]
        cut_streams()
        await asyncio.wait_for(asyncio.gather(*streams), 10)
        return [*counts, open_streams()]

    assert asyncio.run(run()) == [2, 0]
    last = [json.loads(body.removeprefix(b"data: ")) for body in sent[-2:]]
    message = "The server is stopping: the answer is not complete. Ask again in a moment."
    assert [event["error"]["message"] for event in last] == [message, message]
    assert b"[DONE]" not in b"".join(sent)
