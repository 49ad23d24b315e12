"""The pages: one noun a file, each with its routes."""

from starlette.routing import Route

from tunesmith.web.pages import overview, sign_in
from tunesmith.web.pages.evaluations import evals, verdicts
from tunesmith.web.pages.organization import health, keys, projects, usage

PAGES = (overview, sign_in, evals, verdicts, usage, keys, projects, health)
ROUTES: list[Route] = [route for page in PAGES for route in page.ROUTES]
