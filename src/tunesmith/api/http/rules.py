"""What a route demands of its caller, declared at the route with `@rule(...)`.

Middleware asks for a route's rule before a body is read. A route under /v1 without one stops the application's start.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar

from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from tunesmith.store import Role

Limit: TypeAlias = Literal["model", "uploads"]
Endpoint = TypeVar("Endpoint", bound=Callable[..., object])
ATTRIBUTE = "tunesmith_rule"  # of an endpoint


@dataclass(frozen=True, slots=True)
class Rule:
    """The least role that may call, and the rate limit that a call counts against."""

    role: Role
    limit: Limit | None = None
    deed: str = ""  # for a refusal: "deletes models"


def rule(role: Role, *, limit: Limit | None = None, deed: str = "") -> Callable[[Endpoint], Endpoint]:
    """Declares the rule of an endpoint; goes under the route's own decorator."""

    def declare(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, ATTRIBUTE, Rule(role, limit, deed))
        return endpoint

    return declare


class Rules:
    """The rules of all routes.

    Raises ValueError for a route under /v1 that declares none, and for one that cannot: a mounted application or a
    WebSocket would be reached past the rules.
    """

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        self._routes = [(route, _declared(route)) for route in map(_api_route, routes)]
        self._fixed = {  # most calls name a path without parameters; these need no search
            (method, route.path): self._search(method, route.path)
            for route, _ in self._routes
            for method in route.methods or ()
            if not route.param_convertors
        }

    def find(self, method: str, path: str) -> Rule:
        """The rule of the route that will answer.

        Where none will, everybody may look, but only members may send anything.
        """
        return self._fixed.get((method, path)) or self._search(method, path)

    def _search(self, method: str, path: str) -> Rule:
        for route, found in self._routes:
            if method in (route.methods or ()) and route.path_regex.match(path):
                return found
        return Rule("read-only" if method in ("GET", "HEAD") else "member")


def _api_route(route: BaseRoute) -> APIRoute:
    if not isinstance(route, APIRoute):
        raise ValueError(f"{route!r} cannot declare a rule: add it with a method of APIRouter.")
    return route


def _declared(route: APIRoute) -> Rule:
    found = getattr(route.endpoint, ATTRIBUTE, None)
    if isinstance(found, Rule):
        return found
    if route.path.startswith("/v1"):
        raise ValueError(f"The route {route.path} has no rule: put @rule(ROLE) under its decorator.")
    return Rule("read-only")
