"""The HTTP application: routes, middleware and error handling put together. Importing this imports no torch."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware import Middleware

from tunesmith import __version__
from tunesmith.api import document
from tunesmith.api.background.file_checks import FileChecks
from tunesmith.api.background.sweeper import Sweeper
from tunesmith.api.http import errors as envelopes
from tunesmith.api.http.context import Context
from tunesmith.api.middleware.auth import Authentication
from tunesmith.api.middleware.body_limits import BodyLimit
from tunesmith.api.middleware.headers import OpenAIHeaders
from tunesmith.api.middleware.metering import Metering, UsageRecorder
from tunesmith.api.middleware.rate_limits import Throttle
from tunesmith.api.routes import (
    chat,
    completions,
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
from tunesmith.api.routes import checkpoint_permissions as permissions
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import Store


def create_app(settings: Settings, store: Store, pool: Pool) -> FastAPI:
    """One application over one open store. The caller opens and closes the store and the pool."""
    checks = FileChecks(store, settings)
    usage_recorder = UsageRecorder(store)
    sweeper = Sweeper(store, settings.sweep_seconds)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        checks.start()
        usage_recorder.start()
        sweeper.start()
        yield
        sweeper.stop()
        checks.stop()
        usage_recorder.stop()

    app = FastAPI(
        title="Tunesmith",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # its page loads scripts from a CDN
        redoc_url=None,
        redirect_slashes=False,  # a redirected POST loses its body in both clients
        responses={"4XX": {"description": "OpenAI's error envelope"}},  # else FastAPI describes a 422
        middleware=_middleware(settings, store, usage_recorder),
    )
    app.state.context = Context(settings, store, pool)
    app.state.checks = checks
    app.state.usage = usage_recorder
    envelopes.install(app)
    tuning = (files, uploads, jobs, permissions, graders, models)
    answering = (chat, stored_chats, completions, moderations)
    for noun in (*tuning, *answering, organization, usage, health):
        app.include_router(noun.router)
    document.install(app)
    return app


def _middleware(settings: Settings, store: Store, recorder: UsageRecorder) -> list[Middleware]:
    """Outermost first. Everything from `Throttle` on knows the key."""
    return [
        Middleware(OpenAIHeaders, organization=settings.organization),
        Middleware(Authentication, store=store, settings=settings),
        Middleware(Throttle, settings=settings),
        Middleware(Metering, recorder=recorder),
        Middleware(BodyLimit),
    ]
