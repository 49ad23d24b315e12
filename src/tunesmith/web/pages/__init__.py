"""The pages: one noun a file, each with its routes."""

from starlette.routing import Route

from tunesmith.web.pages import jobs, overview, sign_in

ROUTES: list[Route] = sorted(  # `/ui/jobs/new` before `/ui/jobs/{id}`
    (route for page in (overview, sign_in, jobs) for route in page.ROUTES), key=lambda route: route.path.count("{")
)
