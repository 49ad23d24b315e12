"""API and dashboard as one application."""

from typing import cast

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from tunesmith.api.app import create_app
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import Store
from tunesmith.web.access.guard import Guard
from tunesmith.web.access.visit import Web
from tunesmith.web.gateway import gateway_route
from tunesmith.web.live.feed import Feeds
from tunesmith.web.pages import ROUTES
from tunesmith.web.refusals import HANDLERS
from tunesmith.web.static_files import StaticFolder


class Site:
    """Answers `/` and all below `/ui/` with pages, and everything else with the API."""

    def __init__(self, api: FastAPI, pages: Starlette) -> None:
        self.api = api
        self.pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the call on; the application's start and end are the API's."""
        await (self.pages if _is_page(scope) else self.api)(scope, receive, send)


def create_site(settings: Settings, store: Store, pool: Pool) -> Site:
    """Makes the API with its dashboard over one open store.

    The caller opens and closes the store and the pool.
    """
    api = create_app(settings, store, pool)
    web = Web(api.state.parts, api, Feeds(store))
    pages = Starlette(
        routes=[Mount("/ui/static", StaticFolder()), gateway_route(), *ROUTES],
        middleware=[Middleware(Guard, settings=settings)],
        exception_handlers=HANDLERS,
    )
    pages.state.web = web
    return Site(api, pages)


def _is_page(scope: Scope) -> bool:
    if scope["type"] != "http":
        return False
    path = cast(str, scope["path"])
    return path.startswith("/ui/") or path == "/ui" or (path == "/" and scope["method"] in ("GET", "HEAD"))
