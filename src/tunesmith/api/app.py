"""The HTTP application: routes, middleware and error handling put together.

Importing this imports no torch.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI
from starlette.middleware import Middleware

from tunesmith import __version__
from tunesmith.api import document
from tunesmith.api.background.file_checks import FileChecks
from tunesmith.api.background.sweeper import Sweeper
from tunesmith.api.evals.service import EvalRuns
from tunesmith.api.exports.service import Exports
from tunesmith.api.http import errors
from tunesmith.api.http.context import Parts
from tunesmith.api.http.rules import Rules
from tunesmith.api.middleware.auth import Authentication
from tunesmith.api.middleware.azure import AzurePaths
from tunesmith.api.middleware.body_limits import BodyLimit
from tunesmith.api.middleware.browsers import browser_access
from tunesmith.api.middleware.headers import OpenAIHeaders
from tunesmith.api.middleware.metering import Metering, UsageRecorder
from tunesmith.api.middleware.paths import PlainPaths
from tunesmith.api.middleware.rate_limits import RateLimits
from tunesmith.api.routes import (
    chat,
    checkpoint_permissions,
    completions,
    evals,
    files,
    graders,
    health,
    jobs,
    models,
    moderations,
    organization,
    stored_chats,
    uploads,
    usage,
)
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import Store

TUNING = (files, uploads, jobs, checkpoint_permissions, graders, models)
ANSWERING = (chat, stored_chats, completions, moderations, evals)
ROUTERS = [noun.router for noun in (*TUNING, *ANSWERING, organization, usage, health)]


def create_app(settings: Settings, store: Store, pool: Pool) -> FastAPI:
    """Makes the application over one open store.

    The caller opens and closes the store and the pool.
    """
    checks = FileChecks(store, settings)
    usage_recorder = UsageRecorder(store)
    eval_runs, exports = EvalRuns(store, settings, pool), Exports(store, settings)
    sweeper = Sweeper(store, settings.sweep_seconds, checks, exports)
    rules = Rules(route for router in ROUTERS for route in router.routes)
    app = FastAPI(
        title="Tunesmith",
        version=__version__,
        lifespan=_lifespan(checks, usage_recorder, sweeper, eval_runs, exports),
        docs_url=None,  # its page loads scripts from a CDN
        redoc_url=None,
        redirect_slashes=False,  # a redirected POST loses its body in both clients
        middleware=_middleware(settings, store, usage_recorder, rules),
    )
    app.state.parts = Parts(settings, store, pool)
    app.state.checks = checks
    app.state.exports = exports
    app.state.usage = usage_recorder
    app.state.eval_runs = eval_runs
    errors.install(app)
    for router in ROUTERS:
        app.router.routes.extend(router.routes)  # `include_router` would analyse all of them anew for each application
    document.install(app)
    return app


def _lifespan(
    checks: FileChecks, recorder: UsageRecorder, sweeper: Sweeper, eval_runs: EvalRuns, exports: Exports
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        checks.start()
        recorder.start()
        sweeper.start()
        eval_runs.start()
        yield
        eval_runs.stop()
        sweeper.stop()
        exports.stop()
        checks.stop()
        recorder.stop()

    return lifespan


def _middleware(settings: Settings, store: Store, recorder: UsageRecorder, rules: Rules) -> list[Middleware]:
    """Outermost first. Everything from `RateLimits` on knows the key."""
    return [
        *browser_access(settings),
        Middleware(OpenAIHeaders, organization=settings.organization),
        Middleware(PlainPaths),
        Middleware(AzurePaths),
        Middleware(Authentication, store=store, rules=rules),
        Middleware(RateLimits, settings=settings, shared=store.limits),
        Middleware(Metering, recorder=recorder),
        Middleware(BodyLimit, max_bytes=settings.max_body_bytes, timeout=settings.body_timeout),
    ]
