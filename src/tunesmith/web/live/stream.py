"""A job's page, kept up to date by one stream for each that looks.

A stream is one task that mostly sleeps. It ends with its viewer, its session, its job, or the server; the page comes
back by itself and says by the last event's id what it has, so a break loses nothing.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import orjson
from anyio import CapacityLimiter, to_thread
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tunesmith.api.http.sse import close_on_disconnect
from tunesmith.jsonvalue import JsonValue
from tunesmith.web.live.feed import Feed, Place
from tunesmith.web.views.job_numbers import job_numbers

SECONDS = 1.0  # between two looks
ALIVE_SECONDS = 15.0  # between two signs of life, and two questions whether the session has ended
MOST_OF_SESSION = 8  # the oldest one ends; a browser opens six connections to a server at most
MOST_OF_KEY = 40  # so that whoever signs in again and again takes no place of others
MOST = 400

_open: "dict[LiveStream, None]" = {}  # touched by the event loop only, oldest first
_threads = CapacityLimiter(2)  # so that viewers never take those of requests


@dataclass(frozen=True, slots=True)
class Looker:
    """Whose stream it is.

    The names of the session and the key are for the bounds; the language is the page's.
    """

    session: str
    key: str
    language: str


class LiveStream(Response):
    """Sends what is new of a feed until somebody leaves.

    `is_valid` tells in a thread whether the viewer may still look.
    """

    def __init__(self, feed: Feed, seen: Place, looker: Looker, is_valid: Callable[[], bool]) -> None:
        super().__init__(media_type="text/event-stream", headers={"cache-control": "no-store"})
        del self.headers["content-length"]
        self._feed = feed
        self._seen = seen
        self._looker = looker
        self._is_valid = is_valid
        self._told, self._looks = b"", -1
        self._ended = asyncio.Event()
        self._last_word = b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the response."""
        watch = asyncio.create_task(close_on_disconnect(receive, self._ended.set))
        self._make_room()
        _open[self] = None
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await self._run(lambda data: send({"type": "http.response.body", "body": data, "more_body": True}))
            await send({"type": "http.response.body", "body": self._last_word})
        finally:
            _open.pop(self, None)
            watch.cancel()

    def end(self, word: str = "") -> None:
        """Ends the stream; `word` is the name of a last event that says why."""
        self._last_word = f"event: {word}\ndata: {{}}\n\n".encode() if word else b""
        self._ended.set()

    def _make_room(self) -> None:
        """Ends the oldest streams of this session, of this key and of all, where there are too many."""
        bounds: tuple[tuple[Callable[[LiveStream], bool], int], ...] = (
            (lambda one: one._looker.session == self._looker.session, MOST_OF_SESSION),
            (lambda one: one._looker.key == self._looker.key, MOST_OF_KEY),
            (lambda _: True, MOST),
        )
        for is_counted, most in bounds:
            counted = [one for one in _open if is_counted(one) and not one._ended.is_set()]
            for one in counted[: max(0, len(counted) - most + 1)]:
                one.end("replaced")

    async def _run(self, tell: Callable[[bytes], Awaitable[None]]) -> None:
        alive = time.monotonic()
        while not self._ended.is_set():
            if self._looks != self._feed.looks or not self._feed.unchanged():
                if message := await to_thread.run_sync(self._message, limiter=_threads):
                    await tell(message)
                if self._feed.ended:
                    return self.end("ended")
            if time.monotonic() - alive > ALIVE_SECONDS:
                alive = time.monotonic()
                if not await to_thread.run_sync(self._is_valid, limiter=_threads):
                    return self.end("signed-out")
                await tell(b"event: alive\ndata: {}\n\n")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), 0.01 if self._feed.behind else SECONDS)

    def _message(self) -> bytes:
        """The next event; empty where nothing has changed for this viewer."""
        self._feed.refresh()
        self._looks = self._feed.looks
        place, data = self._feed.place(), self._data()
        told = orjson.dumps(data)
        if told == self._told:
            return b""
        self._seen, self._told = place, told
        return b"id: " + str(place).encode() + b"\ndata: " + told + b"\n\n"

    def _data(self) -> dict[str, JsonValue]:
        feed, marks = self._feed, self._feed.marks()
        curves: dict[str, JsonValue] = {
            name: [since, [[step, float(f"{value:.5g}")] for step, value in points]]
            for name, (since, points) in feed.patch(self._seen).items()
        }
        numbers = None if feed.job is None else job_numbers(feed.job, feed.metrics, feed.rate())
        return {
            "curves": curves,
            "shown": {} if numbers is None else dict(numbers.shown(self._looker.language)),
            "share": None if numbers is None else numbers.share,
            "marks": {"head": marks.head, "events": marks.events, "checkpoints": marks.checkpoints},
        }


def open_viewers() -> int:
    """How many pages are kept up to date."""
    return len(_open)


def end_viewers() -> None:
    """Ends all streams, since the server stops; the pages wait for the next one."""
    for stream in [*_open]:
        stream.end()
