"""Lists: newest first, always with `has_more`, because both clients ask for another page while it is missing.

`after`, `starting_after` (openai 0.28's FineTuningJob.list) and `cursor` (0.27's list_events) are the same thing.
"""

from collections.abc import Sequence
from typing import Annotated

from fastapi import Depends, Query

from tunesmith.jsonvalue import JsonObject

MAX_LIMIT = 10_000


async def after_id(
    after: str | None = None,
    starting_after: str | None = None,
    cursor: str | None = None,
) -> str | None:
    return after or starting_after or cursor or None


After = Annotated[str | None, Depends(after_id)]
Limit = Annotated[int, Query(ge=0, le=MAX_LIMIT)]


def page(items: Sequence[JsonObject], has_more: bool, *, ids: bool) -> JsonObject:
    """One page. `ids` adds first_id and last_id, which files and checkpoints have and jobs and events have not."""
    body: JsonObject = {"object": "list", "data": list(items), "has_more": has_more}
    if ids:
        body["first_id"] = items[0]["id"] if items else None
        body["last_id"] = items[-1]["id"] if items else None
    return body
