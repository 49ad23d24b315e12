"""Whether a request was sent before, by its headers.

These are `Idempotency-Key` and the official client's count of its attempts.
"""

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated

from fastapi import Depends, Request

from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonValue
from tunesmith.store import CreateRequest, KeyRow
from tunesmith.store.objects.idempotency import Kind
from tunesmith.wire.faults import shown

MAX_KEY = 255


@dataclass(frozen=True, slots=True)
class Idempotency:
    """Whether a request may have been sent before."""

    key: str | None  # of the header Idempotency-Key
    is_retry: bool  # the official client says that this is not its first attempt

    def creation(self, kind: Kind, key: KeyRow, request: JsonValue) -> CreateRequest:
        """What the store needs to make an object only once.

        `request`: everything that decides what is made.
        """
        text = json.dumps(request, sort_keys=True)
        digest = sha256(text.encode()).hexdigest()
        return CreateRequest(kind, key.project, key.id, digest, self.key, self.is_retry)


async def get_idempotency(request: Request) -> Idempotency:
    """Raises InvalidRequest for an Idempotency-Key that is too long or not printable."""
    idempotency_key = request.headers.get("idempotency-key", "").strip() or None
    if idempotency_key is not None and (len(idempotency_key) > MAX_KEY or not idempotency_key.isprintable()):
        raise InvalidRequest(
            f"The header Idempotency-Key is {shown(idempotency_key)}: it must have 1 to {MAX_KEY} printable characters."
        )
    count = request.headers.get("x-stainless-retry-count", "0")
    return Idempotency(idempotency_key, count.isdecimal() and int(count[:9]) > 0)


IdempotencyDep = Annotated[Idempotency, Depends(get_idempotency)]
