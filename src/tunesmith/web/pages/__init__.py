"""The pages: one noun a file, each with its routes."""

from starlette.routing import Route

from tunesmith.web.pages import models, overview, playground, sign_in

ROUTES: list[Route] = [route for page in (models, overview, playground, sign_in) for route in page.ROUTES]
