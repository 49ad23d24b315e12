"""What a request says about being sent twice: `Idempotency-Key`, and the official client's count of its attempts."""

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated

from fastapi import Depends, Request

from tunesmith.api.http.errors import shown
from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonValue
from tunesmith.store import CreateRequest, KeyRow
from tunesmith.store.objects.idempotency import Kind

MAX_KEY = 255


@dataclass(frozen=True, slots=True)
class Attempt:
    idempotency_key: str | None
    is_retry: bool

    def creation(self, kind: Kind, key: KeyRow, asked: JsonValue) -> CreateRequest:
        """`asked`: everything that decides what is made."""
        text = json.dumps(asked, sort_keys=True)
        digest = sha256(text.encode()).hexdigest()
        return CreateRequest(kind, key.project, key.id, digest, self.idempotency_key, self.is_retry)


async def get_attempt(request: Request) -> Attempt:
    idempotency_key = request.headers.get("idempotency-key", "").strip() or None
    if idempotency_key is not None and (len(idempotency_key) > MAX_KEY or not idempotency_key.isprintable()):
        raise InvalidRequest(
            f"The header Idempotency-Key is {shown(idempotency_key)}: it must have 1 to {MAX_KEY} printable characters."
        )
    count = request.headers.get("x-stainless-retry-count", "0")
    return Attempt(idempotency_key, count.isdecimal() and int(count[:9]) > 0)


AttemptDep = Annotated[Attempt, Depends(get_attempt)]
