"""The pages about jobs: the list, one job, several over one another."""

from starlette.routing import Route

from tunesmith.web.pages.jobs import compare, job, listing, live

ROUTES: list[Route] = [route for page in (listing, compare, job, live) for route in page.ROUTES]
