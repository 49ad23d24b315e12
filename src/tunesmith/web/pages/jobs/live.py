"""What scripts of jobs' pages read: the stream of one job, the curves of several."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tunesmith.store.queue.jobs import no_job
from tunesmith.web.access.visit import session_cookie, signed_in, web_of
from tunesmith.web.language import language_of
from tunesmith.web.live.feed import Place
from tunesmith.web.live.stream import LiveStream, Looker
from tunesmith.web.live.thinning import thinned
from tunesmith.web.pages.jobs.compare import chosen

OVERLAID_POINTS = 240  # of each curve, where several jobs are drawn


async def stream(request: Request) -> Response:
    """What is new of a job, as server-sent events; Last-Event-ID says what is known."""
    visit = await signed_in(request)
    if request.method == "HEAD":
        return Response(media_type="text/event-stream")
    web, job_id = web_of(request), request.path_params["id"]
    if await run_in_threadpool(visit.store.jobs.get, job_id) is None:
        raise no_job(job_id)
    seen = Place.read(request.headers.get("last-event-id") or request.query_params.get("after", ""))
    token = request.cookies[session_cookie(request)]

    def is_valid() -> bool:
        return web.store.sessions.find(token) is not None

    looker = Looker(visit.csrf, visit.key.id, language_of(request))
    return LiveStream(web.feeds.of(job_id), seen, looker, is_valid)


async def curves(request: Request) -> Response:
    """The curves of the chosen jobs, by their ids."""
    visit, feeds = await signed_in(request), web_of(request).feeds
    rows = await run_in_threadpool(chosen, visit.store, request.query_params.getlist("job"))

    def read() -> dict[str, object]:
        found = [feeds.fresh(row.id) for row in rows]
        drawn = {
            feed.job_id: {name: thinned(points, OVERLAID_POINTS) for name, points in feed.points().items()}
            for feed in found
        }
        return {"active": not all(feed.ended for feed in found), "jobs": drawn}

    return JSONResponse(await run_in_threadpool(read))


ROUTES = [Route("/ui/live/jobs/{id}", stream), Route("/ui/live/curves", curves)]
