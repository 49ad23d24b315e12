"""The dashboard's pages as an application beside the API."""

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount

from tunesmith.settings import Settings
from tunesmith.store import Store
from tunesmith.web.access.guard import Guard
from tunesmith.web.access.visit import Web
from tunesmith.web.gateway import gateway_route
from tunesmith.web.live.feed import Feeds
from tunesmith.web.pages import ROUTES
from tunesmith.web.refusals import HANDLERS
from tunesmith.web.static_files import StaticFolder


def create_pages(api: FastAPI, settings: Settings, store: Store) -> Starlette:
    """Makes the pages over the API's functions and one open store."""
    pages = Starlette(
        routes=[Mount("/ui/static", StaticFolder()), gateway_route(), *ROUTES],
        middleware=[Middleware(Guard, settings=settings)],
        exception_handlers=HANDLERS,
    )
    pages.state.web = Web(api.state.parts, api, Feeds(store))
    return pages
