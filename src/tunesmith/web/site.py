"""API and dashboard as one application."""

from threading import Lock
from typing import cast

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from tunesmith.api.app import create_app
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import Store


class Site:
    """Answers `/` and all below `/ui/` with pages, and everything else with the API.

    The pages are made when they are first asked for, or by `prepare`: importing them takes as long as the API.
    """

    def __init__(self, api: FastAPI, settings: Settings, store: Store) -> None:
        self.api = api
        self._parts = settings, store
        self._pages: ASGIApp | None = None
        self._making = Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the call on; the application's start and end are the API's."""
        if not _is_page(scope):
            await self.api(scope, receive, send)
            return
        if self._pages is None:
            await run_in_threadpool(self.prepare)
        await self.prepare()(scope, receive, send)

    def prepare(self) -> ASGIApp:
        """The pages, made now if they are not there."""
        from tunesmith.web.pages_app import create_pages

        with self._making:
            if self._pages is None:
                self._pages = create_pages(self.api, *self._parts)
            return self._pages


def create_site(settings: Settings, store: Store, pool: Pool) -> Site:
    """Makes the API with its dashboard over one open store.

    The caller opens and closes the store and the pool.
    """
    return Site(create_app(settings, store, pool), settings, store)


def _is_page(scope: Scope) -> bool:
    if scope["type"] != "http":
        return False
    path = cast(str, scope["path"])
    return path.startswith("/ui/") or path == "/ui" or (path == "/" and scope["method"] in ("GET", "HEAD"))
