"""Keys, projects, usage and health: what the CLI can do, to whom, and no secret twice."""

import re
import time

import pytest
from starlette.testclient import TestClient
from tests.web.conftest import SignIn
from tests.web.pages.test_verdicts import text_of

from tunesmith.settings import Settings
from tunesmith.store import Store
from tunesmith.store.accounts.usage import Account
from tunesmith.store.rows import Counts
from tunesmith.web.site import Site

HOSTILE = "<script>alert(1)</script>\"'\u202e"


def secret_in(page: str) -> str:
    [*_, found] = re.findall(r"sk-tunesmith-[0-9A-Za-z]{20,}", page)
    return str(found)


def test_a_secret_is_shown_once(browser: TestClient, store: Store) -> None:
    made = browser.post("/ui/keys", data={"name": "laptop", "role": "read-only", "project": "default", "days": "7"})
    assert made.headers["cache-control"] == "no-store"
    secret = secret_in(made.text)
    row = store.keys.verify(secret)
    assert row is not None
    assert (row.name, row.role, row.project) == ("laptop", "read-only", "default")
    assert row.expires_at == pytest.approx(time.time() + 7 * 86_400, abs=10)
    for address in ("/ui/keys", "/ui/keys?past=1", "/ui/health", "/"):
        assert secret not in browser.get(address).text
    assert f"…{secret[-4:]}" in browser.get("/ui/keys").text


def test_an_owners_key_is_made_and_revoked(browser: TestClient, store: Store) -> None:
    part = browser.post("/ui/keys", data={"name": HOSTILE, "role": "owner"}, headers={"hx-request": "true"}).text
    assert "<html" not in part
    assert "<script>" not in part
    row = store.keys.verify(secret_in(part))
    assert row is not None
    assert row.role == "owner"
    assert browser.post(f"/ui/keys/{row.id}/revoke").headers["location"] == "/ui/keys"
    assert store.keys.get(row.id) is None
    assert "Revoked" in browser.get("/ui/keys?past=1").text


def test_the_key_in_use_is_not_revoked(browser: TestClient, store: Store) -> None:
    [own] = store.keys.all()
    page = browser.get("/ui/keys").text
    assert f"/ui/keys/{own.id}/revoke" not in page
    refused = browser.post(f"/ui/keys/{own.id}/revoke", headers={"hx-request": "true"}).text
    assert "is the key that this request was made with" in refused
    assert 'id="key-list"' in refused
    assert store.keys.get(own.id) is not None


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"name": " ", "role": "member"}, "name"),
        ({"name": "x", "project": "none"}, "none"),
        ({"name": "x", "role": "god"}, "role"),
    ],
    ids=["name", "project", "role"],
)
def test_what_is_wrong_with_a_key_is_said(browser: TestClient, store: Store, data: dict[str, str], says: str) -> None:
    before = len(store.keys.all())
    answer = browser.post("/ui/keys", data=data, headers={"hx-request": "true"})
    assert answer.status_code in (400, 404)
    assert says in answer.text
    assert 'class="problem"' in answer.text
    assert len(store.keys.all()) == before


@pytest.mark.parametrize("role", ["member", "read-only"])
def test_others_than_owners_are_told_why(sign_in: SignIn, store: Store, role: str) -> None:
    other = sign_in(role)
    secret, _ = store.keys.create("somebody's")
    for address in ("/ui/usage", "/ui/projects"):
        answer = other.get(address)
        assert answer.status_code == 403
        assert "Only a key with the role" in answer.text
    page = other.get("/ui/keys").text
    assert "browser" in page
    assert "somebody" not in page
    assert other.post("/ui/keys", data={"name": "x"}).status_code == 403
    assert other.post("/ui/projects", data={"name": "x"}).status_code == 403
    row = store.keys.verify(secret)
    assert row is not None
    assert other.post(f"/ui/keys/{row.id}/revoke").status_code == 403
    assert store.keys.get(row.id) is not None
    assert other.post("/ui/projects/look", data={"project": "default"}).status_code == 403


def test_a_project_is_made_renamed_looked_at_and_archived(browser: TestClient, store: Store) -> None:
    assert browser.post("/ui/projects", data={"name": HOSTILE}).status_code == 303
    project = next(one for one in store.projects.page().data if one.name == HOSTILE)
    page = browser.get("/ui/projects").text
    assert "<script>alert" not in page
    assert project.id in page
    assert browser.post(f"/ui/projects/{project.id}/rename", data={"name": "support"}).status_code == 303
    looked = browser.post("/ui/projects/look", data={"project": project.id})
    assert "HttpOnly" in looked.headers["set-cookie"]
    assert f"Owner · {project.id}" in text_of(browser.get("/").text)
    assert browser.post(f"/ui/projects/{project.id}/archive").status_code == 303
    assert "Owner · default" in text_of(browser.get("/").text)  # an archived project is not looked at
    assert "support" not in browser.get("/ui/projects").text
    assert "support" in browser.get("/ui/projects?archived=1").text


def test_what_is_wrong_with_a_project_is_said_in_its_place(browser: TestClient) -> None:
    first = browser.post("/ui/projects/default/archive")
    assert first.status_code == 400
    assert "The first project cannot be archived" in first.text
    assert "name" in browser.post("/ui/projects", data={"name": " "}).text
    assert "none" in browser.post("/ui/projects/look", data={"project": "none"}).text


@pytest.fixture
def used(store: Store) -> str:
    key = store.keys.create("laptop <b>")[1]
    minute = int(time.time()) // 60 * 60
    store.usage.add(
        {
            Account(minute, "default", key.id, "base"): Counts(1000, 2_000_000, 500, 1_000_000),
            Account(minute - 3 * 86_400, "default", key.id, "ft:model"): Counts(trained_tokens=6810),
            Account(minute - 60 * 86_400, "default", key.id, "old"): Counts(requests=7),
        },
        {},
    )
    return f"laptop &lt;b&gt; (…{key.hint})"


def test_usage_is_the_apis_by_model_and_key(browser: TestClient, used: str) -> None:
    words = text_of(browser.get("/ui/usage").text)
    # 2,000,000 x $3 + 1,000,000 x $6, a million; 6,810 x $8, a million
    assert f"{used} 1,000 2,000,000 500 1,000,000 6,810 $12.05" in words
    assert "base 1,000 2,000,000 500 1,000,000 0 $12.00" in words
    assert "ft:model 0 0 0 0 6,810 $0.05448" in words
    assert "old 7" not in words
    assert "old 7 0 0 0 0 $0" in text_of(browser.get("/ui/usage?days=90").text)
    api = browser.get(
        "/ui/api/v1/organization/usage/completions", params={"start_time": int(time.time()) - 86_400}
    ).json()
    assert sum(one["num_model_requests"] for bucket in api["data"] for one in bucket["results"]) == 1000


@pytest.mark.parametrize(("days", "bars"), [("7", 7), ("30", 30), ("90", 90), ("x", 30)])
def test_usage_is_drawn_day_by_day(browser: TestClient, used: str, days: str, bars: int) -> None:
    page = browser.get(f"/ui/usage?days={days}&show=prompt_tokens").text
    assert page.count("<rect ") == bars
    today = time.strftime("%Y-%m-%d", time.gmtime())
    assert f"<title>{today}: 2,000,000</title>" in page
    assert f'<th scope="row">{today}</th>' in page


def test_usage_at_other_prices(browser: TestClient, used: str) -> None:
    words = text_of(browser.get("/ui/usage?price=gpt-4o-mini-2024-07-18").text)
    assert "base 1,000 2,000,000 500 1,000,000 0 $1.80" in words  # $0.30 and $1.20 a million
    assert browser.get("/ui/usage?price=none").status_code == 200


def test_health_says_what_is_there(
    browser: TestClient, sign_in: SignIn, settings: Settings, stranger: TestClient
) -> None:
    stranger.get("/v1/models")
    page = text_of(browser.get("/ui/health").text)
    for words in ("not started by this server", "SQLite", "smollm2-135m-instruct", "torch", str(settings.paths.root)):
        assert words in page
    assert "GET /v1/models no key" in page
    member = text_of(sign_in("member").get("/ui/health").text)
    assert str(settings.paths.root) not in member
    assert "no key" not in member


def test_health_tells_why_no_worker_runs(browser: TestClient, site: Site) -> None:
    api = site.api
    api.state.worker_fault = lambda: "The worker cannot be started: Cannot allocate memory."
    assert "Cannot allocate memory" in browser.get("/ui/health").text
    api.state.worker_fault = lambda: None
    assert "runs" in text_of(browser.get("/ui/health").text)
