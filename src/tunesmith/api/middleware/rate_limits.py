"""Rate limits of a project: requests, tokens and uploads (docs/api.md).

Tokens are only known afterwards, so a request is admitted on an estimate (a quarter of its body's bytes), and charged
for what it used when its answer has ended. So a project may exceed its limit once, and then waits longer. A request
counts as many times as the answers that it asks for (`n` times the prompts).

On PostgreSQL all servers count together, in the database (`shared_limits`): a request is admitted there before it
begins. Two requests for several answers each, which come to two servers within milliseconds, may exceed the number of
answers at a time.

Not covered: on SQLite a restart begins with full buckets.
"""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunesmith.api.http.errors import error_response
from tunesmith.api.http.rules import Rule
from tunesmith.api.middleware.metering import Metered
from tunesmith.api.middleware.shared_limits import SharedCounter
from tunesmith.api.middleware.token_bucket import TokenBucket, shown
from tunesmith.errors import InvalidRequest, RateLimited, ServiceUnavailable
from tunesmith.settings import Settings
from tunesmith.store.servers.limits import Charge, SharedLimits

BYTES_PER_TOKEN = 4
TRIES, TOLD_SECONDS = 3, 0.05


@dataclass(slots=True)
class Project:
    """What a project has left. None: no limit."""

    requests: TokenBucket | None
    tokens: TokenBucket | None
    uploads: TokenBucket | None
    running: int = 0
    elsewhere: int = 0  # answers that other servers had under way when a request was last admitted

    def buckets(self) -> dict[str, TokenBucket]:
        """Those that have a limit, by name."""
        all_of_them = {"requests": self.requests, "tokens": self.tokens, "uploads": self.uploads}
        return {what: bucket for what, bucket in all_of_them.items() if bucket is not None}


@dataclass(slots=True)
class Admission:
    """A request under way; it counts as often as it asks for answers."""

    project: Project
    most: int  # at a time; 0: no limit
    clock: Callable[[], float]
    counted: int = 1
    tell: Callable[[int], None] | None = None  # other servers, of answers beyond the first

    def count(self, choices: int, param: str) -> None:
        """Count the request as `choices` requests, before its work is done.

        Raises RateLimited, and InvalidRequest for more choices than the project may have at all.
        """
        more = choices - self.counted
        if self.most and choices > self.most:
            raise InvalidRequest(
                f"The request asks for {choices} answers at a time, and a project may have {self.most} "
                f"(limit_concurrent_requests): ask for fewer.",
                param=param,
                code="too_many_choices",
            )
        running = self.project.running + self.project.elsewhere
        if self.most and running + more > self.most:
            raise RateLimited(
                f"Rate limit reached: {running - self.counted} answers are under way and {choices} were "
                f"asked for, at most {self.most} at a time (limit_concurrent_requests). Ask again when one has ended.",
                code="rate_limit_exceeded",
            )
        self.project.running += more
        self.counted = choices
        if self.tell is not None:
            self.tell(more)
        if self.project.requests is not None:
            self.project.requests.spend(float(more), self.clock())  # may exceed what is left, and is then waited off


def count_choices(request: Request, choices: int, param: str = "n") -> None:
    """Tell the project's limits how many answers a request asks for."""
    admission: Admission | None = getattr(request.state, "admission", None)
    if admission is not None:
        admission.count(choices, param)


class RateLimits:
    """Refuses with a 429 what is over a project's limits.

    Runs inside authentication, since it needs the key's project. Only the event loop touches its state.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
        shared: SharedLimits | None = None,
    ) -> None:
        self.app = app
        self.settings = settings
        self.clock = clock
        self.projects: dict[str, Project] = {}
        self.counter = None if shared is None else SharedCounter(shared)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the call on if the project's limits allow it; answers 429 otherwise."""
        state = scope.get("state", {}) if scope["type"] == "http" else {}
        rule: Rule | None = state.get("rule")
        if rule is None or rule.limit is None:
            await self.app(scope, receive, send)
            return
        key = state["key"]
        project = self._project(key.project)
        try:
            if rule.limit == "model":
                await self._ask(project, key.project, scope, receive, send)
                return
            await self._admit(project, key.project, {"uploads": 1.0}, 0)
        except _Refusal as refusal:
            await refusal.answer(self._headers(project))(scope, receive, send)
            return
        except ServiceUnavailable as error:
            await error_response(error)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    async def _ask(self, project: Project, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        estimate = self._estimate(scope)
        most = self.settings.limit_concurrent_requests
        await self._admit(project, name, {"requests": 1.0, "tokens": estimate}, most)
        tell = None if self.counter is None else partial(self._settle, project, name)
        admission = Admission(project, most, self.clock, tell=tell)
        scope.setdefault("state", {})["admission"] = admission
        project.running += 1
        try:
            await self.app(scope, receive, self._with_headers(send, project))
        finally:
            project.running -= admission.counted
            more = _used(scope.get("state", {}).get("metered")) - estimate
            if project.tokens is not None:
                project.tokens.spend(more, self.clock())
            if self.counter is not None:
                self._settle(project, name, -admission.counted, tokens=more)

    async def _admit(self, project: Project, name: str, amounts: Mapping[str, float], most: int) -> None:
        """Checks every limit before charging any: a refused request costs nothing."""
        buckets = {what: bucket for what, bucket in project.buckets().items() if what in amounts}
        if self.counter is not None and (buckets or most):
            await self._admit_among_servers(self.counter, project, name, amounts)
            return
        if most and project.running >= most:
            raise _too_many(name, most)
        for what, bucket in buckets.items():
            self._demand(bucket, amounts[what], what, name)
        for what, bucket in buckets.items():
            bucket.spend(amounts[what], self.clock())

    async def _admit_among_servers(
        self, counter: SharedCounter, project: Project, name: str, amounts: Mapping[str, float]
    ) -> None:
        """As `_admit`, in the database; our own buckets then say what it has, and why it refuses."""
        buckets = {what: bucket for what, bucket in project.buckets().items() if what in amounts}
        charges = [Charge(what, bucket.per_minute, amounts[what]) for what, bucket in buckets.items()]
        most = 0 if "uploads" in amounts else self.settings.limit_concurrent_requests
        for _ in range(TRIES):
            found = await counter.admit(name, charges, most)
            project.elsewhere = found.elsewhere
            for what, level in found.levels.items():
                buckets[what].put(level, self.clock())
            if found.admitted:
                return
            for what, bucket in buckets.items():
                self._demand(bucket, amounts[what], what, name)
            await asyncio.sleep(TOLD_SECONDS)  # an answer that has just ended may not be told yet
        raise _too_many(name, most)

    def _demand(self, bucket: TokenBucket, amount: float, what: str, name: str) -> None:
        now = self.clock()
        wait = bucket.wait(amount, now)
        if wait <= 0:
            return
        raise _Refusal(
            f"Rate limit reached for project {name} on {what} per min: Limit {bucket.per_minute}, Remaining "
            f"{bucket.remaining(now)}, Requested {math.ceil(amount)}. Please try again in {shown(wait)}. The limit is "
            f"this server's setting limit_{what}_per_minute.",
            wait,
        )

    def _settle(self, project: Project, name: str, places: int, tokens: float = 0.0) -> None:
        """Tells the other servers of answers that have begun (or with a minus ended), and of tokens used."""
        amounts = {"requests": float(max(0, places)), "tokens": tokens}
        charges = [
            Charge(what, bucket.per_minute, amounts[what])
            for what, bucket in project.buckets().items()
            if amounts.get(what)
        ]
        if self.counter is not None:
            most = self.settings.limit_concurrent_requests
            self.counter.settle(name, charges, places if most else 0)

    def _estimate(self, scope: Scope) -> float:
        announced = Headers(scope=scope).get("content-length", "")
        return int(announced[:18]) / BYTES_PER_TOKEN if announced.isascii() and announced.isdigit() else 1.0

    def _with_headers(self, send: Send, project: Project) -> Send:
        async def forward(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers(project))
            await send(message)

        return forward

    def _headers(self, project: Project) -> dict[str, str]:
        """The rate limit headers of the buckets that have a limit."""
        now, headers = self.clock(), {}
        for what, bucket in (("requests", project.requests), ("tokens", project.tokens)):
            if bucket is not None:
                headers[f"x-ratelimit-limit-{what}"] = str(bucket.per_minute)
                headers[f"x-ratelimit-remaining-{what}"] = str(bucket.remaining(now))
                headers[f"x-ratelimit-reset-{what}"] = shown(bucket.reset(now))
        return headers

    def _project(self, name: str) -> Project:
        if name not in self.projects:
            settings = self.settings
            self.projects[name] = Project(
                requests=self._bucket(settings.limit_requests_per_minute),
                tokens=self._bucket(settings.limit_tokens_per_minute),
                uploads=self._bucket(settings.limit_uploads_per_minute),
            )
        return self.projects[name]

    def _bucket(self, per_minute: int) -> TokenBucket | None:
        return TokenBucket(per_minute, self.clock()) if per_minute else None


class _Refusal(Exception):
    def __init__(self, message: str, wait: float) -> None:
        super().__init__(message)
        self.message = message
        self.wait = wait

    def answer(self, headers: dict[str, str]) -> ASGIApp:
        """The 429 response.

        `retry-after` is in whole seconds, as openai 0.28.1 wants it; newer clients read `retry-after-ms` first.
        """
        retry = {"retry-after": str(max(1, math.ceil(self.wait))), "retry-after-ms": str(math.ceil(self.wait * 1000))}
        return error_response(RateLimited(self.message, code="rate_limit_exceeded"), headers={**headers, **retry})


def _too_many(name: str, most: int) -> _Refusal:
    return _Refusal(
        f"Rate limit reached for project {name}: {most} requests at a time (limit_concurrent_requests). Send the next "
        "one when an answer has ended.",
        1.0,
    )


def _used(metered: Metered | None) -> int:
    usage = None if metered is None else metered.answer.usage
    return 0 if usage is None else usage.prompt_tokens + usage.completion_tokens
