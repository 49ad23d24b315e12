"""/v1/organization, as an owner's client sees it; shapes are held against the official client's own models."""

import time

import pytest
from fastapi import FastAPI
from openai.types.admin.organization import AdminAPIKey, Project
from openai.types.admin.organization.admin_api_key_create_response import AdminAPIKeyCreateResponse
from openai.types.admin.organization.projects import ProjectAPIKey
from starlette.testclient import TestClient
from tests.api.conftest import Json, Refused, key_row

from tunesmith.jsonvalue import JsonObject
from tunesmith.store import Store

PROJECTS = "/v1/organization/projects"
ADMIN_KEYS = "/v1/organization/admin_api_keys"


@pytest.fixture
def project(client: TestClient) -> Json:
    made: Json = client.post(PROJECTS, json={"name": "support"}).json()
    return made


def opens(app: FastAPI, raw: str) -> bool:
    return TestClient(app).get("/v1/models", headers={"Authorization": f"Bearer {raw}"}).status_code == 200


def test_project_is_made_listed_renamed_and_archived(client: TestClient, project: Json) -> None:
    Project.model_validate(project, strict=True)
    assert (project["name"], project["status"], project["archived_at"]) == ("support", "active", None)
    path = f"{PROJECTS}/{project['id']}"
    assert client.get(path).json() == project
    assert client.post(path, json={"name": "help desk"}).json() == {**project, "name": "help desk"}
    listed = client.get(PROJECTS).json()
    assert [one["id"] for one in listed["data"]] == [project["id"], "default"]
    assert [listed["first_id"], listed["last_id"]] == [project["id"], "default"]
    archived = client.post(f"{path}/archive").json()
    Project.model_validate(archived, strict=True)
    assert archived["status"] == "archived"
    assert [one["id"] for one in client.get(PROJECTS).json()["data"]] == ["default"]
    assert len(client.get(PROJECTS, params={"include_archived": True}).json()["data"]) == 2


def test_archived_project_takes_no_changes_and_its_keys_open_nothing(
    app: FastAPI, client: TestClient, project: Json, refused: Refused
) -> None:
    path = f"{PROJECTS}/{project['id']}"
    raw = client.post(f"{path}/api_keys", json={"name": "desk"}).json()["value"]
    assert opens(app, raw)
    client.post(f"{path}/archive")
    assert not opens(app, raw)
    assert "archived" in refused(client.post(path, json={"name": "again"}))["message"]
    assert "archived" in refused(client.post(f"{path}/api_keys", json={"name": "again"}))["message"]


def test_key_of_a_project_is_made_shown_and_deleted(
    app: FastAPI, client: TestClient, project: Json, refused: Refused
) -> None:
    path = f"{PROJECTS}/{project['id']}/api_keys"
    made = client.post(path, json={"name": "desk", "role": "read-only", "expires_in_seconds": 3600}).json()
    raw = made.pop("value")
    ProjectAPIKey.model_validate(made, strict=True)
    assert made["owner"]["service_account"]["role"] == "read-only"
    assert made["expires_at"] - time.time() == pytest.approx(3600, abs=5)
    assert made["redacted_value"] == f"sk-tunesmith-***{raw[-4:]}"
    assert client.get(path).json()["data"] == [made]
    assert client.get(f"{path}/{made['id']}").json() == made
    refused(client.get(f"{PROJECTS}/default/api_keys/{made['id']}"), 404)
    refused(client.delete(f"{PROJECTS}/default/api_keys/{made['id']}"), 404)
    assert opens(app, raw)
    gone = client.delete(f"{path}/{made['id']}").json()
    assert gone == {"object": "organization.project.api_key.deleted", "id": made["id"], "deleted": True}
    assert not opens(app, raw)
    refused(client.delete(f"{path}/{made['id']}"), 404)


def test_admin_key_is_made_shown_and_deleted(app: FastAPI, client: TestClient, key: str) -> None:
    made = client.post(ADMIN_KEYS, json={"name": "robot"}).json()
    AdminAPIKeyCreateResponse.model_validate(made, strict=True)
    raw = made.pop("value")
    other = TestClient(app, headers={"Authorization": f"Bearer {raw}"})
    listed = other.get(ADMIN_KEYS, params={"limit": 1}).json()
    assert (listed["data"][0]["name"], listed["has_more"]) == ("tests", True)
    AdminAPIKey.model_validate(listed["data"][0], strict=True)
    [after] = other.get(ADMIN_KEYS, params={"after": listed["last_id"]}).json()["data"]
    shown = client.get(f"{ADMIN_KEYS}/{made['id']}").json()
    for one in (after, shown):  # its use is noted soon, not at once
        assert one | {"last_used_at": None} == made
    gone = client.delete(f"{ADMIN_KEYS}/{made['id']}").json()
    assert gone == {"object": "organization.admin_api_key.deleted", "id": made["id"], "deleted": True}
    assert not opens(app, raw)
    assert opens(app, key)


def test_members_key_is_no_admin_key(client: TestClient, store: Store, refused: Refused) -> None:
    member = store.keys.create("member", role="member")[1]
    assert len(client.get(ADMIN_KEYS).json()["data"]) == 1
    assert refused(client.get(f"{ADMIN_KEYS}/{member.id}"), 404)["code"] == "key_not_found"


def test_nobody_deletes_the_key_in_the_own_hand(client: TestClient, store: Store, key: str, refused: Refused) -> None:
    own = key_row(store, key).id
    for path in (f"{ADMIN_KEYS}/{own}", f"{PROJECTS}/default/api_keys/{own}"):
        assert "was made with" in refused(client.delete(path))["message"]
    assert client.get("/v1/models").status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (PROJECTS, {}, "name"),
        (PROJECTS, {"name": " "}, "name"),
        (PROJECTS, {"name": 5}, "name"),
        (PROJECTS, {"name": "a", "geography": "EU"}, "geography"),
        (ADMIN_KEYS, {"name": "a", "expires_in_seconds": 0}, "expires_in_seconds"),
        (f"{PROJECTS}/default/api_keys", {"name": "a", "role": "owner"}, "role"),
    ],
)
def test_wrong_field_is_named(client: TestClient, refused: Refused, path: str, body: JsonObject, param: str) -> None:
    assert refused(client.post(path, json=body))["param"] == param


def test_unknown_project_is_404_with_its_id(client: TestClient, refused: Refused) -> None:
    for method, path in (("GET", ""), ("POST", "/archive"), ("GET", "/api_keys"), ("GET", "/api_keys/key_1")):
        error = refused(client.request(method, f"{PROJECTS}/proj_no{path}"), 404)
        assert error["code"] in ("project_not_found", "key_not_found")
    assert "first project" in refused(client.post(f"{PROJECTS}/default/archive"))["message"]
