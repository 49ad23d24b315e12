"""Pages of a list: newest first, always with `has_more`.

Both clients ask for another page while it is missing.

`after`, `starting_after` (openai 0.28's FineTuningJob.list) and `cursor` (0.27's list_events) are the same thing.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar

from fastapi import Depends, Query, Request

from tunesmith.errors import InvalidRequest
from tunesmith.wire.lists import IdListing, Listing

MAX_LIMIT = 10_000
MAX_PAIRS = 64  # of a filter: an object has 16 of its own, unless a setting allows more
SAME = "Another name of after, for old clients."
T = TypeVar("T", bound=Mapping[str, object])


async def after_id(
    after: Annotated[
        str | None,
        Query(
            description="The page starts after this id; also read as starting_after or cursor. Unknown: an empty page."
        ),
    ] = None,
    starting_after: Annotated[str | None, Query(description=SAME)] = None,
    cursor: Annotated[str | None, Query(description=SAME)] = None,
) -> str | None:
    """The id after which a page starts, by any of its three names."""
    return after or starting_after or cursor or None


After = Annotated[str | None, Depends(after_id)]
Limit = Annotated[int, Query(ge=0, le=MAX_LIMIT, description=f"Objects a page, 0 to {MAX_LIMIT}.")]
Order = Annotated[Literal["asc", "desc"], Query(description="asc (oldest first) or desc.")]


async def metadata_filter(request: Request) -> dict[str, str] | None:
    """The `metadata[key]=value` pairs of a query.

    None for `metadata=null`, which asks for objects without metadata. Raises InvalidRequest for too many.
    """
    if request.query_params.get("metadata") == "null":
        return None
    named = ((re.fullmatch(r"metadata\[(.+)\]", name), value) for name, value in request.query_params.items())
    pairs = {match[1]: value for match, value in named if match}
    if len(pairs) > MAX_PAIRS:
        raise InvalidRequest(
            f"The query has {len(pairs):,} pairs metadata[KEY]=VALUE; at most {MAX_PAIRS} are looked for - 'metadata'",
            param="metadata",
        )
    return pairs


MetadataFilter = Annotated[Mapping[str, str] | None, Depends(metadata_filter)]


def listing(items: list[T], has_more: bool) -> Listing[T]:
    """One page of what OpenAI lists without first_id and last_id: jobs and events."""
    return {"object": "list", "data": items, "has_more": has_more}


def id_listing(items: list[T], has_more: bool) -> IdListing[T]:
    """One page with the ids of its first and last element."""
    first, last = (str(items[0]["id"]), str(items[-1]["id"])) if items else (None, None)
    return {"object": "list", "data": items, "has_more": has_more, "first_id": first, "last_id": last}
