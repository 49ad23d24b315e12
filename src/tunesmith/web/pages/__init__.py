"""The pages: one noun a file, each with its routes."""

from starlette.routing import Route

from tunesmith.web.pages import exports, file, files, jobs, models, new_job, overview, playground, sign_in
from tunesmith.web.pages.evaluations import evals, verdicts
from tunesmith.web.pages.organization import health, keys, projects, usage

WORK = (overview, files, file, new_job, jobs, models, exports, playground, evals, verdicts)
OFFICES = (usage, keys, projects, health, sign_in)
ROUTES: list[Route] = sorted(  # `/ui/jobs/new` before `/ui/jobs/{id}`
    (route for page in (*WORK, *OFFICES) for route in page.ROUTES), key=lambda route: route.path.count("{")
)
