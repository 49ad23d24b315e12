"""Counts what each request used, once, after its last byte.

Counts are written to the database in batches, beside the requests.

A route that generates calls `meter`; the middleware reads the counts when the answer has ended, however it
ended. Counts wait in memory for at most `FLUSH_SECONDS`: a clean stop writes them, `kill -9` loses that second.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import structlog
from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from tunesmith.errors import TunesmithError
from tunesmith.serve.chat.answer import Usage
from tunesmith.store import KeyRow, Store
from tunesmith.store.accounts.usage import Account, this_minute
from tunesmith.store.rows import Counts

log = structlog.get_logger(__name__)

FLUSH_SECONDS = 1.0  # one transaction a second has no measurable effect on a busy server's chats


class HasUsage(Protocol):
    """An answer under way, or finished."""

    @property
    def usage(self) -> Usage:
        """The tokens read and written so far."""
        ...


@dataclass(frozen=True, slots=True)
class Metered:
    """Which model answers a request, and what it has used so far."""

    model: str
    answer: HasUsage


def meter(request: Request, model: str, answer: HasUsage) -> None:
    """Says that `model` answers this request.

    What it used is read from `answer` when the answer has ended.
    """
    request.state.metered = Metered(model, answer)


class UsageRecorder:
    """Adds counts up in memory and writes them from a thread of its own."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._counts: dict[Account, Counts] = {}
        self._seen: dict[str, int] = {}
        self._adding = threading.Lock()
        self._writing = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts the thread that writes."""
        self._thread = threading.Thread(target=self._work, name="usage", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; all that was recorded before is written by then."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        self._try_flush()

    def record(self, key: KeyRow, metered: Metered | None) -> None:
        """Cheap: called on the event loop."""
        with self._adding:
            self._seen[key.id] = int(time.time())
            if metered is not None:
                used = metered.answer.usage
                counts = Counts(1, used.prompt_tokens, used.cached_tokens, used.completion_tokens)
                self._add(Account(this_minute(), key.project, key.id, metered.model), counts)

    def flush(self, *, if_counted: bool = False) -> None:
        """Writes what was recorded so far.

        What cannot be written is kept for the next attempt.

        `if_counted`: a key's last use alone may wait, which spares a reader of counts a write.
        """
        with self._writing:
            with self._adding:
                if if_counted and not self._counts:
                    return
                counts, seen = self._counts, self._seen
                self._counts, self._seen = {}, {}
            if not counts and not seen:
                return
            try:
                self._store.usage.add(counts, seen)
            except BaseException:
                self._put_back(counts, seen)
                raise

    def _work(self) -> None:
        while not self._stopping.wait(FLUSH_SECONDS):
            self._try_flush()

    def _try_flush(self) -> None:
        try:
            self.flush()
        except TunesmithError as error:
            log.error("usage was not written; trying again", reason=error.message)

    def _put_back(self, counts: Mapping[Account, Counts], seen: Mapping[str, int]) -> None:
        with self._adding:
            for account, amount in counts.items():
                self._add(account, amount)
            self._seen = {**seen, **self._seen}

    def _add(self, account: Account, counts: Counts) -> None:
        self._counts[account] = self._counts.get(account, Counts()) + counts


class Metering:
    """Records each request; comes after authentication, so each has a key."""

    def __init__(self, app: ASGIApp, recorder: UsageRecorder) -> None:
        self.app = app
        self.recorder = recorder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the call on and records it once it has ended."""
        try:
            await self.app(scope, receive, send)
        finally:
            state = scope.get("state", {}) if scope["type"] == "http" else {}
            if "key" in state:
                self.recorder.record(state["key"], state.get("metered"))
