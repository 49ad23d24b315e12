"""A rule about a route stands on the route; one without a rule keeps the server from starting."""

import pytest
from fastapi import APIRouter

from tunesmith.api.http.rules import Rule, Rules, rule


def test_route_without_a_rule_fails_at_start() -> None:
    router = APIRouter(prefix="/v1/things")
    router.get("")(lambda: None)
    with pytest.raises(ValueError, match="/v1/things has no rule"):
        Rules(router.routes)


@pytest.mark.parametrize("path", ["/v1", "/v1{rest:path}"])
def test_route_at_the_root_of_the_api_needs_a_rule_too(path: str) -> None:
    router = APIRouter()
    router.get(path)(lambda: None)
    with pytest.raises(ValueError, match="has no rule"):
        Rules(router.routes)


def test_route_that_cannot_declare_a_rule_fails_at_start() -> None:
    router = APIRouter(prefix="/v1/things")
    router.mount("/mounted", APIRouter())
    with pytest.raises(ValueError, match="cannot declare a rule"):
        Rules(router.routes)


def test_rule_is_found_for_fixed_and_for_named_paths() -> None:
    router = APIRouter(prefix="/v1/things")

    @router.delete("/{name:path}")
    @rule("owner", deed="deletes things")
    def delete(name: str) -> None: ...

    @router.post("")
    @rule("read-only", limit="model")
    def ask() -> None: ...

    rules = Rules(router.routes)
    assert rules.find("POST", "/v1/things") == Rule("read-only", "model")
    assert rules.find("DELETE", "/v1/things/a/b") == Rule("owner", deed="deletes things")


def test_where_no_route_answers_only_members_may_send_anything() -> None:
    rules = Rules([])
    assert (rules.find("GET", "/v1/x").role, rules.find("POST", "/v1/x").role) == ("read-only", "member")
