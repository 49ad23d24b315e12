"""POSTs JSON to a service and reads JSON back, with retries.

Every failure is a ModeratorUnavailable that names the URL.
"""

import random
import time
from threading import BoundedSemaphore
from weakref import finalize

import httpx
import orjson

from tunesmith.jsonvalue import JsonObject
from tunesmith.moderation.moderator import ModeratorUnavailable

TRIES = 3
FIRST_WAIT = 0.5  # seconds, doubled at each try
LONGEST_WAIT = 20.0  # seconds; a service that asks for more is not waited for
RETRIED = frozenset((408, 409, 429, 500, 502, 503, 504))
LOOP_HEADER = "x-tunesmith-moderation"  # on what we send, so that a server that asks itself can refuse


class Service:
    """A service behind one URL, sent at most `parallel` requests at a time.

    Any number of threads may use it.
    """

    def __init__(self, url: str, key: str | None, *, parallel: int, timeout: float) -> None:
        self.url = url
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(headers={**headers, LOOP_HEADER: "1"}, timeout=timeout, follow_redirects=False)
        self._free = BoundedSemaphore(parallel)
        finalize(self, self._client.close)

    def post(self, body: JsonObject) -> JsonObject:
        """The service's answer. Raises ModeratorUnavailable after the last try."""
        with self._free:
            for last in range(1 - TRIES, 1):
                fault, wait = self._try(body)
                if not isinstance(fault, str):
                    return fault
                if wait is None or last == 0:
                    break
                time.sleep(wait * 2 ** (TRIES - 1 + last) * random.uniform(0.75, 1.0))
        raise ModeratorUnavailable(
            f"The moderation service at {self.url} cannot be used: {fault}. Check the settings `moderation_url`, "
            "`moderation_model` and `moderation_api_key`, and whether the service runs.",
            param="moderation_url",
            code="moderation_unavailable",
        )

    def _try(self, body: JsonObject) -> tuple[JsonObject | str, float | None]:
        """(answer or what went wrong, seconds to wait before the next try; None: another try would not help)."""
        try:
            answer = self._client.post(
                self.url, content=orjson.dumps(body), headers={"content-type": "application/json"}
            )
        except httpx.TimeoutException:
            return f"no answer within {self._client.timeout.read:g} s", FIRST_WAIT
        except httpx.HTTPError as error:
            return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__, FIRST_WAIT
        if answer.status_code != 200:
            fault = f"it answered {answer.status_code}: {answer.text[:200]!r}"
            return fault, _wait(answer) if answer.status_code in RETRIED else None
        try:
            value = orjson.loads(answer.content)
        except orjson.JSONDecodeError:
            return f"its answer is not JSON: {answer.text[:200]!r}", None
        return (
            (value, None) if isinstance(value, dict) else (f"its answer is not an object: {answer.text[:200]!r}", None)
        )


def _wait(answer: httpx.Response) -> float | None:
    seconds = answer.headers.get("retry-after", "")
    if not seconds.replace(".", "", 1).isdigit():
        return FIRST_WAIT
    return float(seconds) if float(seconds) <= LONGEST_WAIT else None
