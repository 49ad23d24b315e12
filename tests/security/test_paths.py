"""Roles and rate limits are judged on the route that answers, however its path is spelled."""

from collections.abc import Iterator
from urllib.parse import unquote

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.testclient import TestClient
from tests.api.conftest import key_row

from tunesmith.api.app import ROUTERS, create_app
from tunesmith.api.http.rules import Rule, Rules
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import Role, Store

READS = {"GET", "HEAD"}
CONTROL = ("%0a", "%0A%0a", "%0d", "%00", "%09", "%7f", "%c2%85", "%e2%80%a8", "%1b[2J")


def routes() -> Iterator[APIRoute]:
    for router in ROUTERS:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            yield route


def mutating() -> list[tuple[str, str]]:
    """Method and path of each route under /v1 that may change something, its parameters filled in."""
    found = []
    for route in routes():
        path = route.path
        for name in route.param_convertors:
            path = path.replace(f"{{{name}}}", "abc").replace(f"{{{name}:path}}", "abc")
        found += [(method, path) for method in sorted(set(route.methods or ()) - READS) if path.startswith("/v1")]
    return sorted(set(found))


def spelled(path: str) -> Iterator[str]:
    """The path with a control character at its end, after its first part and within its last."""
    for control in CONTROL:
        yield path + control
        yield path.replace("/v1/", f"/v1/{control}", 1)
        yield path[:-1] + control + path[-1]


@pytest.fixture
def refusing(app: FastAPI, store: Store) -> TestClient:
    read_only = store.keys.create("looks", role="read-only")[0]
    return TestClient(app, headers={"Authorization": f"Bearer {read_only}"})


def test_control_character_in_a_path_is_refused_before_anything_else(refusing: TestClient) -> None:
    for method, path, spelling in ((*one, spelling) for one in mutating() for spelling in spelled(one[1])):
        answer = refusing.request(method, spelling, headers={"Authorization": "Bearer nobody's"})
        assert answer.status_code == 400, (method, path, spelling)
        assert "control character" in answer.json()["error"]["message"]


@pytest.mark.parametrize("prefix", ["/openai", "/openai/deployments/abc", "/v1/deployments/abc"])
def test_azure_paths_are_no_way_around(refusing: TestClient, prefix: str) -> None:
    assert refusing.post(f"{prefix}/files%0a").status_code == 400


def test_slashes_open_no_route_that_the_key_may_not_call(refusing: TestClient) -> None:
    rules = Rules(routes())
    guarded = [(method, path) for method, path in mutating() if rules.find(method, path).role != "read-only"]
    assert len(guarded) > 10
    for method, path in guarded:
        for spelling in (f"{path}/", f"{path}//", path.replace("/v1/", "/v1//"), f"{path}/.", f"{path}/%2e"):
            assert refusing.request(method, spelling).status_code in (403, 404, 405), (method, spelling)


def test_member_shares_no_checkpoint_by_a_newline(settings: Settings, store: Store) -> None:
    member = store.keys.create("member", role="member")[0]
    path = "/v1/fine_tuning/checkpoints/ft:a:b::c/permissions"
    with TestClient(create_app(settings, store, Pool(settings))) as client:
        for ending, status in (("", 403), ("%0a", 400), ("%0d", 400), ("/", 404)):
            answer = client.post(
                path + ending, json={"project_ids": ["x"]}, headers={"Authorization": f"Bearer {member}"}
            )
            assert answer.status_code == status, ending
    assert key_row(store, member).role == "member"


def test_rule_is_that_of_the_route_that_answers() -> None:
    """Even of paths that the middleware refuses: Starlette matches before a final newline."""
    rules, app = Rules(routes()), FastAPI()
    for router in ROUTERS:
        app.include_router(router)
    for method, path in mutating():
        for spelling in (path, *map(unquote, spelled(path)), f"{path}/", f"{path}//"):
            assert rules.find(method, spelling) == answering(app, method, spelling), (method, spelling)


def answering(app: FastAPI, method: str, path: str) -> Rule:
    scope = {"type": "http", "method": method, "path": path, "headers": []}
    for router in ROUTERS:
        for route in router.routes:
            match, inner = route.matches(scope)
            if match is Match.FULL:
                found: Rule = inner["endpoint"].tunesmith_rule
                return found
    role: Role = "member"
    return Rule(role)


@pytest.mark.parametrize("role", ["read-only", "member"])
def test_no_spelling_escapes_the_rate_limit(settings: Settings, store: Store, role: Role) -> None:
    limited = settings.model_copy(update={"limit_requests_per_minute": 1})
    raw = store.keys.create("limited", role=role)[0]
    with TestClient(create_app(limited, store, Pool(limited)), headers={"Authorization": f"Bearer {raw}"}) as client:
        answers = [
            client.post(f"/v1/moderations{ending}", json={"input": "a"}).status_code
            for ending in ("", "", "%0a", "%0d", "/", "%20")
        ]
    assert answers[:4] == [200, 429, 400, 400]
    assert set(answers[4:]) <= {403, 404}
