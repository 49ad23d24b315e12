"""Checkpoints shared with another project, on the wire."""

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from tests.api.conftest import Json, Refused, Valid

from tunesmith.jsonvalue import JsonObject
from tunesmith.store import Store


@pytest.fixture
def other(store: Store) -> str:
    return store.projects.create("other").id


@pytest.fixture
def friend(app: FastAPI, client: TestClient, store: Store, other: str) -> TestClient:
    """Has a key of the other project; `client` keeps the application up."""
    raw = store.keys.create("friend", project=other, role="member")[0]
    return TestClient(app, headers={"Authorization": f"Bearer {raw}"})


@pytest.fixture(params=["final", "checkpoint"])
def name(request: pytest.FixtureRequest, finished_job: Json) -> str:
    """The tuned model, and an earlier checkpoint of it."""
    if request.param == "final":
        return str(finished_job["fine_tuned_model"])
    return str(finished_job["checkpoints"][-1]["fine_tuned_model_checkpoint"])


def test_permission_lives_its_life(client: TestClient, name: str, other: str, valid: Valid) -> None:
    url = f"/v1/fine_tuning/checkpoints/{name}/permissions"
    made = client.post(url, json={"project_ids": [other]}).json()
    valid("ListFineTuningCheckpointPermissionResponse", made)
    [permission] = made["data"]
    assert permission["project_id"] == other
    assert client.get(url).json() == made
    assert client.get(url, params={"project_id": "default", "order": "ascending"}).json()["data"] == []
    gone = client.delete(f"{url}/{permission['id']}").json()
    valid("DeleteFineTuningCheckpointPermissionResponse", gone)
    assert gone == {"id": permission["id"], "object": "checkpoint.permission", "deleted": True}
    assert client.get(url).json()["data"] == []


def test_shared_model_is_seen_and_trained_further_by_the_other_project(
    client: TestClient, friend: TestClient, name: str, other: str, rows: bytes, refused: Refused
) -> None:
    assert refused(friend.get(f"/v1/models/{name}"), 404)["code"] == "model_not_found"
    client.post(f"/v1/fine_tuning/checkpoints/{name}/permissions", json={"project_ids": [other]})
    assert friend.get(f"/v1/models/{name}").json()["id"] == name
    assert name in friend.get("/v1/models").text
    file = friend.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("a.jsonl", rows)}).json()["id"]
    job = friend.post("/v1/fine_tuning/jobs", json={"model": name, "training_file": file})
    assert job.json()["model"] == name
    refused(friend.get(f"/v1/fine_tuning/checkpoints/{name}/permissions"), 404)


@pytest.mark.parametrize(
    ("body", "param"),
    [({}, "project_ids"), ({"project_ids": []}, "project_ids"), ({"project_ids": ["proj_x"]}, "project_ids[0]")],
)
def test_wrong_grant_is_refused(
    client: TestClient, finished_job: Json, refused: Refused, body: JsonObject, param: str
) -> None:
    url = f"/v1/fine_tuning/checkpoints/{finished_job['fine_tuned_model']}/permissions"
    assert refused(client.post(url, json=body))["param"] == param


def test_unknown_permission_is_404(client: TestClient, finished_job: Json, refused: Refused) -> None:
    url = f"/v1/fine_tuning/checkpoints/{finished_job['fine_tuned_model']}/permissions"
    assert refused(client.delete(f"{url}/cp_x"), 404)["param"] == "permission_id"
    unknown = client.get("/v1/fine_tuning/checkpoints/ft:none/permissions")
    assert refused(unknown, 404)["code"] == "model_not_found"
