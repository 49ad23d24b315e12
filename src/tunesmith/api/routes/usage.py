"""Usage: what was asked and trained, in buckets of time.

GET /v1/organization/usage/completions, for owners only. Source of the shape: OpenAI's description.
There are no users, batches and service tiers here, so those columns stay null.
"""

import re
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request

from tunesmith.api.http.context import ContextDep
from tunesmith.api.http.json_answers import JSONAnswer
from tunesmith.api.http.rules import rule
from tunesmith.errors import InvalidRequest
from tunesmith.store.accounts.usage import Group, UsageFilter, UsageRow
from tunesmith.store.rows import Counts
from tunesmith.wire.organization import UsageBucket, UsagePage, UsageResult

router = APIRouter(prefix="/v1/organization/usage", tags=["organization"])
for_owners = rule("owner", deed="manages projects, keys and usage")

Width = Literal["1m", "1h", "1d"]
LATEST = 10**11  # seconds
Start = Annotated[int, Query(ge=0, le=LATEST, description="Unix seconds.")]
End = Annotated[int | None, Query(ge=0, le=LATEST, description="Unix seconds, exclusive; unset: now.")]
BucketWidth = Annotated[
    Width, Query(description="1m, 1h or 1d; buckets begin at whole minutes, hours and days of UTC.")
]
Buckets = Annotated[
    int | None,
    Query(description="Buckets a page, by their width: at most 1440, 168 or 31; unset: 60, 24 or 7."),
]
Page = Annotated[str | None, Query(description="next_page of the page before.")]
SECONDS: dict[Width, int] = {"1m": 60, "1h": 3600, "1d": 86400}
LIMITS: dict[Width, tuple[int, int]] = {"1m": (60, 1440), "1h": (24, 168), "1d": (7, 31)}  # default, most
GROUPS: dict[str, Group | None] = {
    "project_id": "project",
    "api_key_id": "key_id",
    "model": "model",
    "user_id": None,
    "batch": None,
    "service_tier": None,
}


@dataclass(frozen=True, slots=True)
class Span:
    """The buckets that were asked for, as FastAPI reads them from the query."""

    start_time: Start
    end_time: End = None
    bucket_width: BucketWidth = "1d"
    limit: Buckets = None
    page: Page = None

    @property
    def seconds(self) -> int:
        """The length of one bucket in seconds."""
        return SECONDS[self.bucket_width]


@router.get("/completions")
@for_owners
def completions_usage(
    request: Request,
    context: ContextDep,
    span: Annotated[Span, Depends()],
    batch: Annotated[bool, Query(description="There are no batches here: true returns empty buckets.")] = False,
) -> JSONAnswer:
    """Sums per bucket, up to now: what the last second used is among them."""
    request.app.state.usage.flush(if_counted=True)
    count = _limit(span.limit, span.bucket_width)
    end = int(time.time()) + 1 if span.end_time is None else span.end_time
    if end <= span.start_time:
        message = f"end_time {end} is not after start_time {span.start_time}. - 'end_time'"
        raise InvalidRequest(message, param="end_time")
    first = _first_bucket(span.page, span.start_time, span.seconds)
    after = first + count * span.seconds
    rows = [] if batch else _rows(request, context, range(max(first, span.start_time), min(end, after)), span.seconds)
    results = defaultdict[int, list[UsageResult]](list)
    for row in rows:
        results[row.start].append(_result(row, row.counts))
    answer: UsagePage = {
        "object": "page",
        "data": [_bucket(one, span.seconds, results[one]) for one in range(first, min(end, after), span.seconds)],
        "has_more": after < end,
        "next_page": f"page_{after}" if after < end else None,
    }
    return JSONAnswer(answer)


def _rows(request: Request, context: ContextDep, times: range, width: int) -> list[UsageRow]:
    named = _several(request, "group_by")
    for name in named:
        if name not in GROUPS:
            raise InvalidRequest(f"{name!r} is not one of {list(GROUPS)} - 'group_by'", param="group_by")
    if _several(request, "user_ids"):
        raise InvalidRequest("There are no users here, only keys: use 'api_key_ids'. - 'user_ids'", param="user_ids")
    groups = [group for name in dict.fromkeys(named) if (group := GROUPS[name]) is not None]
    where = UsageFilter(_several(request, "project_ids"), _several(request, "api_key_ids"), _several(request, "models"))
    return context.store.usage.sums(times.start, times.stop, width, where=where, group_by=groups)


def _several(request: Request, name: str) -> list[str]:
    """`name=a&name=b` as the description has it, and `name[]=a`, as openai 3.x sends it."""
    return request.query_params.getlist(name) + request.query_params.getlist(f"{name}[]")


def _limit(limit: int | None, width: Width) -> int:
    default, most = LIMITS[width]
    if limit is None:
        return default
    if not 1 <= limit <= most:
        raise InvalidRequest(f"{limit} is not from 1 to {most} for buckets of {width} - 'limit'", param="limit")
    return limit


def _first_bucket(page: str | None, start: int, width: int) -> int:
    if page is None:
        return start - start % width
    match = re.fullmatch(r"page_([0-9]{1,12})", page)
    if match is None or int(match[1]) % width:
        raise InvalidRequest(
            f"{page!r} is no page of buckets of this width; send the 'next_page' of an answer. - 'page'", param="page"
        )
    return int(match[1])


def _bucket(start: int, width: int, results: Sequence[UsageResult]) -> UsageBucket:
    return {
        "object": "bucket",
        "start_time": start,
        "end_time": start + width,
        "results": list(results),
    }


def _result(row: UsageRow, counts: Counts) -> UsageResult:
    """`input_tokens` includes the cached ones, as at OpenAI."""
    return {
        "object": "organization.usage.completions.result",
        "input_tokens": counts.prompt_tokens,
        "output_tokens": counts.completion_tokens,
        "input_cached_tokens": counts.cached_tokens,
        "input_audio_tokens": 0,
        "output_audio_tokens": 0,
        "num_model_requests": counts.requests,
        "project_id": row.project,
        "user_id": None,
        "api_key_id": row.key_id,
        "model": row.model,
        "batch": None,
        "service_tier": None,
        "tunesmith": {"trained_tokens": counts.trained_tokens},
    }
