"""Who may see a page: sessions, forged forms, other sites, other hosts."""

import time

import pytest
from starlette.testclient import TestClient
from tests.web.conftest import SignIn

from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import Store
from tunesmith.store.accounts import sessions
from tunesmith.web.access.visit import csrf_token
from tunesmith.web.site import create_site


def cookie_of(client: TestClient) -> str:
    return next(value for name, value in client.cookies.items() if name.startswith("tunesmith_session_"))


def test_a_stranger_is_sent_to_the_sign_in_page_and_back(stranger: TestClient, store: Store) -> None:
    answer = stranger.get("/?after=x")
    assert (answer.status_code, answer.headers["location"]) == (303, "/ui/sign-in?next=/%3Fafter%3Dx")
    assert 'name="key"' in stranger.get("/ui/sign-in").text
    raw, _ = store.keys.create("mine")
    assert stranger.post("/ui/sign-in", data={"key": raw, "next": "/ui/files"}).headers["location"] == "/ui/files"


@pytest.mark.parametrize(
    "target",
    ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "/\nSet-Cookie: a=b", ""],
    ids=["slashes", "https", "backslash", "script", "newline", "empty"],
)
def test_sign_in_leads_to_no_other_site(stranger: TestClient, store: Store, target: str) -> None:
    raw, _ = store.keys.create("mine")
    assert stranger.post("/ui/sign-in", data={"key": raw, "next": target}).headers["location"] == "/"


def test_a_wrong_key_is_told_how_to_get_one(stranger: TestClient) -> None:
    answer = stranger.post("/ui/sign-in", data={"key": "sk-tunesmith-wrong"})
    assert answer.status_code == 401
    assert "tunesmith keys create NAME" in answer.text
    assert "set-cookie" not in answer.headers


def test_cookie_is_closed_to_scripts_and_to_other_sites(stranger: TestClient, store: Store) -> None:
    raw, _ = store.keys.create("mine")
    cookie = stranger.post("/ui/sign-in", data={"key": raw}).headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert raw not in cookie


def test_a_session_of_one_server_is_known_by_the_other_behind_one_address(settings: Settings, store: Store) -> None:
    """Two servers of one machine listen on two ports; the browser asks for a third, the proxy's."""
    raw, _ = store.keys.create("mine")
    asked = {"host": "localhost:9000"}
    one, other = (
        TestClient(create_site(settings, store, Pool(settings)), base_url=f"http://localhost:{port}", headers=asked)
        for port in (8001, 8002)
    )
    made = one.post("/ui/sign-in", data={"key": raw}, follow_redirects=False)
    cookie = made.headers["set-cookie"].partition(";")[0]
    assert cookie.startswith("tunesmith_session_9000=")
    assert other.get("/", headers={"cookie": cookie}, follow_redirects=False).status_code == 200
    assert other.get("/", headers={"cookie": cookie, "host": "localhost:x"}, follow_redirects=False).status_code == 303


def test_the_api_takes_no_cookie(browser: TestClient) -> None:
    assert browser.get("/ui/api/v1/models").status_code == 200
    assert browser.get("/v1/models").status_code == 401


def test_a_session_ends_with_its_key_and_when_it_is_signed_out(sign_in: SignIn, store: Store) -> None:
    revoked, out = sign_in(), sign_in()
    assert {one.get("/").status_code for one in (revoked, out)} == {200}
    newest = store.keys.page(limit=2).data[1]  # of the first browser
    store.keys.revoke(newest.id)
    assert revoked.get("/").status_code == 303
    assert out.get("/").status_code == 200
    kept = dict(out.cookies)
    assert out.post("/ui/sign-out").status_code == 303
    out.cookies.update(kept)  # somebody has kept the cookie
    assert out.get("/").status_code == 303


def test_a_session_expires(browser: TestClient, monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    later = time.time() + sessions.SESSION_SECONDS + 1
    monkeypatch.setattr("tunesmith.store.accounts.sessions.time.time", lambda: later)
    assert browser.get("/").status_code == 303
    assert store.sessions.expire() == 1


def test_a_forged_form_does_nothing(browser: TestClient) -> None:
    del browser.headers["x-csrf-token"]
    for data in ({}, {"csrf": "0" * 64}, {"csrf": csrf_token("another session")}):
        answer = browser.post("/ui/sign-out", data=data)
        assert answer.status_code == 403
    assert browser.delete("/ui/api/v1/models/x").status_code == 403
    assert browser.get("/").status_code == 200
    assert browser.post("/ui/sign-out", data={"csrf": csrf_token(cookie_of(browser))}).status_code == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "http://localhost:9999"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
    ids=["other", "port", "null", "cross-site", "same-site"],
)
def test_another_site_does_nothing(browser: TestClient, headers: dict[str, str]) -> None:
    assert browser.post("/ui/sign-out", headers=headers).status_code == 403
    assert browser.get("/ui/api/v1/models", headers=headers).status_code == 403
    assert browser.get("/").status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "", "[", "evil.example:80"])
def test_a_name_that_points_here_shows_nothing(browser: TestClient, host: str) -> None:
    answer = browser.get("/", headers={"host": host})
    assert answer.status_code == 403
    assert "page_hosts" in answer.text


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1:8000", "[::1]:8000", "192.168.1.7"])
def test_addresses_are_always_shown(browser: TestClient, host: str) -> None:
    assert browser.get("/ui/sign-in", headers={"host": host}).status_code == 200


def test_named_hosts_are_shown(settings: Settings) -> None:
    assert Settings(page_hosts="Tune.example, b.example").page_hosts == ["tune.example", "b.example"]
    with pytest.raises(ValueError, match="no scheme"):
        Settings(page_hosts="https://tune.example")


def test_a_link_signs_in_once(stranger: TestClient, store: Store) -> None:
    raw, _ = store.keys.create("mine")
    assert stranger.post("/ui/links").status_code == 401
    path = stranger.post("/ui/links", headers={"authorization": f"Bearer {raw}"}).json()["path"]
    assert stranger.get(path).headers["location"] == "/"
    assert stranger.get("/").status_code == 200
    stranger.cookies.clear()
    assert stranger.get(path).status_code == 401
    assert stranger.get("/").status_code == 303


def test_a_link_is_no_session_and_expires(stranger: TestClient, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    _, key = store.keys.create("mine")
    link = store.sessions.create(key.id, one_time=True)
    assert store.sessions.find(link) is None
    later = time.time() + sessions.LINK_SECONDS + 1
    monkeypatch.setattr("tunesmith.store.accounts.sessions.time.time", lambda: later)
    assert stranger.get(f"/ui/link/{link}").status_code == 401


def test_every_answer_has_the_headers(browser: TestClient) -> None:
    for path in ("/", "/ui/sign-in", "/ui/none", "/ui/static/app.js"):
        headers = browser.get(path).headers
        assert "unsafe" not in headers["content-security-policy"]
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


def test_a_form_is_bounded(browser: TestClient, stranger: TestClient) -> None:
    del browser.headers["x-csrf-token"]
    assert browser.post("/ui/sign-out", data={"csrf": "x" * 2_000_000}).status_code == 413
    assert stranger.post("/ui/sign-in", data={"key": "x" * 9_000}).status_code == 413


def test_a_link_is_not_used_up_by_who_looks_at_it_nor_followed_from_another_site(
    stranger: TestClient, store: Store
) -> None:
    _, key = store.keys.create("mine")
    path = f"/ui/link/{store.sessions.create(key.id, one_time=True)}"
    assert "set-cookie" not in stranger.head(path).headers
    refused = stranger.get(path, headers={"sec-fetch-site": "cross-site"})
    assert (refused.status_code, "set-cookie" in refused.headers) == (403, False)
    assert stranger.get(path).status_code == 303


@pytest.mark.parametrize("value", ["ftjob-x/events", "../files", "a b", "x" * 300, "%2e%2e"])
def test_a_value_of_a_query_is_one_part_of_a_path(browser: TestClient, value: str) -> None:
    assert browser.get("/ui/jobs/new", params={"from": value}).status_code == 404
    looked = browser.post("/ui/projects/look", data={"project": value})
    assert "set-cookie" not in looked.headers


def test_a_script_sends_its_token_as_a_header(browser: TestClient) -> None:
    del browser.headers["x-csrf-token"]
    form = {"csrf": csrf_token(cookie_of(browser))}
    assert browser.post("/ui/api/v1/files", data=form).status_code == 403


def test_roles_are_the_apis(sign_in: SignIn) -> None:
    reader = sign_in("read-only")
    assert reader.get("/ui/api/v1/fine_tuning/jobs").status_code == 200
    refused = reader.post("/ui/api/v1/fine_tuning/jobs", json={})
    assert refused.status_code == 403
    assert "read-only" in refused.json()["error"]["message"]


def test_what_the_api_answered_before_it_answers_still(stranger: TestClient) -> None:
    assert stranger.get("/healthz").status_code == 200
    assert stranger.post("/").json()["error"]["code"] == "unknown_url"
    assert stranger.get("/fine_tuning/jobs").json()["error"]["code"] == "unknown_url"
