"""Asks an OpenAI-compatible server, and waits as it tells us to.

The key is sent in one header to one address: redirects are not followed, and whatever the server says back is shown
without it.
"""

import asyncio
import contextlib
import email.utils
import random
import time
from dataclasses import dataclass, field

import httpx
import orjson

from tunesmith.errors import InvalidRequest, ServiceUnavailable
from tunesmith.jsonvalue import JsonObject

CONNECT_SECONDS = 10.0
TRIES = 8  # of one row: with the waits below, about four minutes
FIRST_WAIT = 1.0  # seconds, doubled at each try
LONGEST_WAIT = 60.0  # of our own choice
PATIENCE = 900.0  # seconds; a server that asks for a longer wait is left alone, and the run can be continued later
SHOWN = 300  # characters of a server's own message
RETRIED = frozenset((408, 409, 425, 429, 500, 502, 503, 504, 529))
FOR_ALL = {
    401: "Check the key in the environment variable {key_name}.",
    402: "The account has no credit left.",
    403: "The key may not use this model, or this country or project is not allowed.",
    404: "Check --teacher and --upstream.",
}
GOES_ON = "What is answered is kept; the same command goes on from there."
OUT_OF_CREDIT = frozenset(("insufficient_quota", "billing_hard_limit_reached", "billing_not_active"))


class UpstreamStopped(ServiceUnavailable):
    """Raised where asking on would not help any row; the run can be continued later."""


class RowRefused(InvalidRequest):
    """The upstream does not answer this row; others may be asked."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the teacher is asked, and as whom."""

    url: str  # ends in /v1 or wherever chat/completions stands below
    key: str | None = field(repr=False, default=None)
    key_name: str = "OPENAI_API_KEY"
    timeout: float = 120.0  # seconds of silence

    @property
    def host(self) -> str:
        """Host and port, as provenance names them."""
        return httpx.URL(self.url).netloc.decode()


@dataclass(slots=True)
class Tally:
    """What happened on the way to the answers."""

    requests: int = 0
    limited: int = 0
    faults: int = 0


class Upstream:
    """One server, for one event loop; any number of tasks may ask."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.tally = Tally()
        self._answered = time.monotonic()  # when a row was last answered, or the run began
        self._not_before = 0.0  # of time.monotonic(); a limit holds for every task
        self._halted = asyncio.Event()
        headers = {"authorization": f"Bearer {address.key}"} if address.key else {}
        timeout = httpx.Timeout(address.timeout, connect=CONNECT_SECONDS, pool=None)
        limits = httpx.Limits(max_connections=None)
        self._client = httpx.AsyncClient(headers=headers, timeout=timeout, limits=limits, follow_redirects=False)

    def halt(self) -> None:
        """Ends all waiting for another try; what is being answered right now still may be."""
        self._halted.set()

    @property
    def is_halted(self) -> bool:
        """Whether no more is to be asked."""
        return self._halted.is_set()

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def ask(self, body: JsonObject, key: str) -> JsonObject:
        """The chat completion for `body`; `key` is the request's idempotency key.

        Raises RowRefused where the server does not want this request, UpstreamStopped where it wants none.
        """
        failures = limits = 0
        while True:
            await self._wait_for_turn()
            answer = await self._send(body, key)
            if isinstance(answer, dict):
                self._answered = time.monotonic()
                return answer
            fault = answer if isinstance(answer, str) else self._refusal(answer)
            if not isinstance(answer, str) and self._is_limit(answer, limits):
                limits += 1
                continue
            failures += 1
            self.tally.faults += 1
            if failures == TRIES:
                raise UpstreamStopped(f"{self.address.host} did not answer in {TRIES} tries: {fault} {GOES_ON}")
            await self._sleep(_own_wait(failures - 1))

    async def _send(self, body: JsonObject, key: str) -> JsonObject | httpx.Response | str:
        """The completion, an answer that is none, or what went wrong on the way."""
        self.tally.requests += 1
        headers = {"content-type": "application/json", "idempotency-key": f"tunesmith-replay-{key}"}
        try:
            answer = await self._client.post(
                f"{self.address.url}/chat/completions", content=orjson.dumps(body), headers=headers
            )
        except httpx.TimeoutException:
            return f"no answer within {self.address.timeout:g} s."
        except httpx.HTTPError as error:
            return f"{str(error) or type(error).__name__}."
        if answer.status_code != 200:
            return answer
        try:
            value = orjson.loads(answer.content)
        except orjson.JSONDecodeError:
            return f"its answer is not JSON: {self._hide(answer.text)[:SHOWN]!r}."
        if not isinstance(value, dict) or not isinstance(value.get("choices"), list) or not value["choices"]:
            return f"its answer is no chat completion: {self._hide(answer.text)[:SHOWN]!r}."
        return value

    def _refusal(self, answer: httpx.Response) -> str:
        """The server's words, where another try may help; raises where none will."""
        status, said = answer.status_code, self._said(answer)
        if answer.is_redirect:
            to = self._hide(answer.headers.get("location", ""))[:SHOWN]
            raise UpstreamStopped(f"{self.address.host} sends us to {to}; name that address as --upstream.")
        if status in FOR_ALL:
            cure = FOR_ALL[status].format(key_name=self.address.key_name)
            raise UpstreamStopped(f"{self.address.host} answered {status}: {said} {cure}")
        if _code(answer) in OUT_OF_CREDIT:
            raise UpstreamStopped(f"{self.address.host} answered {status}: {said} The account has no credit left.")
        if status not in RETRIED:
            raise RowRefused(f"{self.address.host} answered {status}: {said}")
        return f"it answered {status}: {said}"

    def _is_limit(self, answer: httpx.Response, limits: int) -> bool:
        """Whether the server asks to wait; then every task waits for as long as it asks, or as is polite."""
        asked = retry_after(answer.headers)
        if asked is None and answer.status_code != 429:
            return False
        wait = _own_wait(limits) if asked is None else asked
        until = time.monotonic() + wait
        # One row may lose the race for a slot many times; the run is stuck only when no row gets an answer.
        if until - self._answered > PATIENCE:
            raise UpstreamStopped(
                f"{self.address.host} asks to wait {wait:,.0f} s more: {self._said(answer)} {GOES_ON}"
            )
        self.tally.limited += 1
        self._not_before = max(self._not_before, until)
        return True

    async def _wait_for_turn(self) -> None:
        while (wait := self._not_before - time.monotonic()) > 0:
            await self._sleep(wait + random.uniform(0, 0.05))  # not all at the same moment

    async def _sleep(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._halted.wait(), seconds)
            raise UpstreamStopped(f"The run was stopped. {GOES_ON}")

    def _said(self, answer: httpx.Response) -> str:
        """The server's own message, in one line and without the key."""
        text = answer.text
        try:
            error = orjson.loads(answer.content)["error"]
            text = error["message"] if isinstance(error, dict) else str(error)
        except (orjson.JSONDecodeError, KeyError, TypeError):
            pass
        line = " ".join(self._hide(str(text)).split())[:SHOWN]
        return line if line.endswith((".", "!", "?")) else f"{line or 'no message'}."

    def _hide(self, text: str) -> str:
        return text.replace(self.address.key, "…") if self.address.key else text


def retry_after(headers: httpx.Headers) -> float | None:
    """Seconds to wait by `retry-after-ms` or `Retry-After`; None without either.

    The latter holds seconds or a date.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        if text.replace(".", "", 1).isdecimal():
            return float(text) * unit
    date = email.utils.parsedate_tz(headers.get("retry-after", ""))
    return max(0.0, email.utils.mktime_tz(date) - time.time()) if date else None


def _own_wait(attempt: int) -> float:
    return float(min(LONGEST_WAIT, FIRST_WAIT * 2**attempt) * random.uniform(0.75, 1.0))


def _code(answer: httpx.Response) -> object:
    try:
        return orjson.loads(answer.content)["error"]["code"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
