"""Usage by day, key and model."""

import time
from typing import cast

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tunesmith.errors import InvalidRequest
from tunesmith.estimate.price_file import PriceBook, read_price_book
from tunesmith.estimate.prices import DEFAULT_MODEL
from tunesmith.jsonvalue import JsonObject
from tunesmith.store.accounts.usage import Group
from tunesmith.store.rows import Counts
from tunesmith.web.access.visit import Visit, signed_in
from tunesmith.web.render import render
from tunesmith.web.views.organization.usage import METRICS, MOST_LINES, SPANS, first_day, known_prices, make_usage

BUCKETS = 31  # days that the API gives at a time


async def usage_page(request: Request) -> Response:
    """What was asked and trained, and what it would have cost."""
    visit = await signed_in(request)
    if not visit.may("owner"):
        return render(request, "organization/owners_only.html", status=403, title="nav.usage")
    query = request.query_params
    days = next((one for one in SPANS if str(one) == query.get("days")), 30)
    metric = next((one for one in METRICS if one == query.get("show")), METRICS[0])
    book, fault = await run_in_threadpool(_book, visit)
    price = book.find(query.get("price", "")) or book.require(DEFAULT_MODEL)
    start = first_day(days, time.time())
    totals = await _buckets(visit, start)  # first: the API writes what it still counts in memory
    models = await run_in_threadpool(_largest, visit, start, "model")
    keys = await _named(visit, await run_in_threadpool(_largest, visit, start, "key_id"))
    found = make_usage(totals, models, keys, price, metric)
    chosen = {"days": days, "metric": metric, "spans": SPANS, "metrics": METRICS, "prices": known_prices(book)}
    return render(request, "organization/usage.html", status=200, usage=found, fault=fault, **chosen)


def _book(visit: Visit) -> tuple[PriceBook, str]:
    """The prices, and what is wrong with the user's own file."""
    try:
        path = visit.settings.price_file
        return read_price_book(path.expanduser() if path else None), ""
    except InvalidRequest as error:
        return PriceBook(), error.message


def _largest(visit: Visit, start: int, group: Group) -> dict[str, Counts]:
    """The largest sums of the whole time: the API's, by days, would be thousands."""
    return dict(visit.store.usage.largest(start, int(time.time()) + 1, group, MOST_LINES))


async def _buckets(visit: Visit, start: int) -> list[JsonObject]:
    found: list[JsonObject] = []
    page: str | None = None
    while len(found) < max(SPANS):
        path = "/v1/organization/usage/completions"
        answer = await visit.api.get(path, start_time=start, limit=BUCKETS, page=page)
        found += cast("list[JsonObject]", answer["data"])
        page = cast("str | None", answer["next_page"])
        if page is None:
            break
    return found


async def _named(visit: Visit, sums: dict[str, Counts]) -> dict[str, Counts]:
    """The sums by the keys' names; keys of one name keep their ids apart."""
    names = {key.id: f"{key.name} (…{key.hint})" for key in await run_in_threadpool(visit.store.keys.all)}
    return {names.get(key, key): counts for key, counts in sums.items()}


ROUTES = [Route("/ui/usage", usage_page)]
