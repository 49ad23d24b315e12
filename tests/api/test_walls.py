"""Another project's objects are not there, on any route, and roles hold on every one. A new route is tested by itself.

A new kind of object needs an entry in `theirs`: the test fails until it has one.
"""

import re
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from starlette.routing import compile_path
from starlette.testclient import TestClient
from tests.api.conftest import Json, Refused, Upload
from tests.servers import wait_until

from tunesmith.store import ChatRow, Store
from tunesmith.store.rows import Role

ORGANIZATION = "/v1/organization"
PARAMETER = re.compile(r"\{(\w+)(?::path)?\}")
NOBODYS = ("/v1/engines/{model}",)  # bases, the same for everybody; `test_tuned_model_…` has the others
UPLOAD = {"filename": "a.jsonl", "purpose": "fine-tune", "bytes": 9, "mime_type": "text/jsonl"}
BODIES: dict[str, Json] = {"complete": {"part_ids": ["part_x"]}, "permissions": {"project_ids": ["default"]}}
BODIES["display_name"] = {"display_name": "Theirs"}
SAME: Json = {"type": "string_check", "name": "a", "input": "a", "reference": "a", "operation": "eq"}
EVAL: Json = {"data_source_config": {"type": "custom", "item_schema": {}}, "testing_criteria": [SAME]}
RUN: Json = {"data_source": {"type": "jsonl", "source": {"type": "file_content", "content": [{"item": {}}]}}}
BODIES["runs"] = RUN
EVERY_ROLE = {
    ("GET", "/v1/models"): {"owner", "member", "read-only"},
    ("DELETE", "/v1/models/{name}"): {"owner"},
    ("POST", "/v1/models/{name}"): {"owner"},  # sets an alias
    ("POST", "/v1/fine_tuning/checkpoints/{name}/permissions"): {"owner"},
    ("DELETE", "/v1/fine_tuning/checkpoints/{name}/permissions/{permission_id}"): {"owner"},
    ("POST", "/v1/chat/completions"): {"owner", "member", "read-only"},
    ("POST", "/v1/completions"): {"owner", "member", "read-only"},
    ("POST", "/v1/engines/{model}/chat/completions"): {"owner", "member", "read-only"},
    ("POST", "/v1/engines/{model}/completions"): {"owner", "member", "read-only"},
    ("POST", "/v1/moderations"): {"owner", "member", "read-only"},
    ("POST", "/v1/fine_tuning/alpha/graders/validate"): {"owner", "member", "read-only"},
    ("POST", "/v1/fine_tuning/alpha/graders/run"): {"owner", "member", "read-only"},
}


def operations(app: FastAPI) -> Iterator[tuple[str, str]]:
    """(method, path) of every route under /v1, from the application's own description."""
    for path, methods in app.openapi()["paths"].items():
        if path.startswith("/v1"):
            for method in methods:
                yield method.upper(), path


@pytest.fixture
def theirs(client: TestClient, store: Store, finished_job: Json) -> dict[str, str]:
    """Path parameter -> the id of an object in the first project."""
    name = finished_job["fine_tuned_model"]
    store.chats.add(ChatRow("chatcmpl-theirs", "base", "base", 1, {}, (), {}, "default"))
    eval_id = client.post("/v1/evals", json=EVAL).json()["id"]
    return {
        "eval_id": eval_id,
        **_run(client, f"/v1/evals/{eval_id}/runs"),
        "completion_id": "chatcmpl-theirs",
        "permission_id": store.permissions.grant(name, [store.projects.create("third").id])[0].id,
        "file_id": finished_job["training_file"],
        "job_id": finished_job["id"],
        "upload_id": client.post("/v1/uploads", json=UPLOAD).json()["id"],
        "name": finished_job["fine_tuned_model"],
    }


def _run(client: TestClient, url: str) -> dict[str, str]:
    """A run with an output item that is done."""
    run_id = client.post(url, json=RUN).json()["id"]
    wait_until(lambda: client.get(f"{url}/{run_id}").json()["status"] == "completed", 20, "the end of a run")
    return {"run_id": run_id, "output_item_id": client.get(f"{url}/{run_id}/output_items").json()["data"][0]["id"]}


@pytest.fixture
def stranger(app: FastAPI, store: Store, client: TestClient) -> TestClient:
    """Has a key that may do everything in a project of its own, and nothing elsewhere; `client` keeps the app up."""
    raw = store.keys.create("stranger", project=store.projects.create("other").id, role="member")[0]
    return TestClient(app, headers={"Authorization": f"Bearer {raw}"})


def body_for(path: str) -> Json:
    """What the route takes, so that it is not refused for that."""
    return BODIES.get(path.rpartition("/")[2], {"metadata": {}})


def addressed(app: FastAPI, theirs: dict[str, str]) -> Iterator[tuple[str, str]]:
    for method, path in operations(app):
        names = PARAMETER.findall(path)
        if names and not path.startswith((ORGANIZATION, *NOBODYS)):
            assert set(names) <= theirs.keys(), f"{path}: say in `theirs` how an object of another project is named"
            yield method, PARAMETER.sub(lambda match: theirs[match[1]], path)


def test_objects_of_another_project_are_404_on_every_route(
    app: FastAPI, client: TestClient, stranger: TestClient, theirs: dict[str, str], refused: Refused
) -> None:
    tried = 0
    for method, path in addressed(app, theirs):
        if method != "GET" and (path == f"/v1/models/{theirs['name']}" or "/permissions" in path):
            continue  # a member may not delete or share any model; an owner of the other project is below
        refused(stranger.request(method, path, json=body_for(path)), 404)
        tried += 1
    assert tried >= 9
    for path in (f"/v1/files/{theirs['file_id']}", f"/v1/fine_tuning/jobs/{theirs['job_id']}"):
        assert client.get(path).status_code == 200


def test_owner_acting_in_another_project_finds_nothing_of_the_first_either(
    app: FastAPI, client: TestClient, store: Store, theirs: dict[str, str], refused: Refused
) -> None:
    other = store.projects.create("other").id
    for method, path in addressed(app, theirs):
        if method == "POST" and path == f"/v1/models/{theirs['name']}":
            continue  # sets an alias, which is of no project; a tuned model's name is none: see test_models.py
        refused(client.request(method, path, headers={"OpenAI-Project": other}, json=body_for(path)), 404)
    assert client.get(f"/v1/models/{theirs['name']}").status_code == 200


def test_lists_have_only_the_own_project(
    app: FastAPI, client: TestClient, stranger: TestClient, theirs: dict[str, str]
) -> None:
    for method, path in operations(app):
        if method != "GET" or PARAMETER.search(path) or path.startswith(ORGANIZATION):
            continue
        text = stranger.get(path).text
        assert not [one for one in theirs.values() if one in text], path
        assert client.get(path).status_code == 200
    assert theirs["name"] in client.get("/v1/models").text


def test_tuned_model_of_another_project_is_not_asked_and_not_trained_further(
    stranger: TestClient, theirs: dict[str, str], refused: Refused, upload: Upload, rows: bytes
) -> None:
    name = theirs["name"]
    body = {"model": name, "messages": [{"role": "user", "content": "Hi"}]}
    for path in ("/v1/chat/completions", f"/v1/engines/{name}/chat/completions"):
        assert refused(stranger.post(path, json=body), 404)["code"] == "model_not_found"
    for path in ("/v1/completions", f"/v1/engines/{name}/completions"):
        assert refused(stranger.post(path, json={"model": name, "prompt": "Hi"}), 404)["code"] == "model_not_found"
    mine = stranger.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("a.jsonl", rows)}).json()["id"]
    job = stranger.post("/v1/fine_tuning/jobs", json={"model": name, "training_file": mine})
    assert refused(job)["code"] == "model_not_available"


def test_file_of_another_project_is_not_trained_on(
    stranger: TestClient, theirs: dict[str, str], refused: Refused
) -> None:
    body = {"model": "gpt-3.5-turbo", "training_file": theirs["file_id"]}
    error = refused(stranger.post("/v1/fine_tuning/jobs", json=body))
    assert error["param"] == "training_file"
    assert "there is no such file" in error["message"]


@pytest.mark.parametrize("role", ["owner", "member", "read-only"])
def test_each_role_may_do_what_is_written_and_no_more(
    app: FastAPI, client: TestClient, store: Store, refused: Refused, role: Role
) -> None:
    caller = TestClient(app, headers={"Authorization": f"Bearer {store.keys.create('one', role=role)[0]}"})
    for method, path in operations(app):
        if path.startswith(ORGANIZATION):
            may: set[str] = {"owner"}
        else:
            may = EVERY_ROLE.get((method, path)) or ({"owner", "member"} if method != "GET" else {role})
        filled = PARAMETER.sub("nobody", path)
        answer = caller.request(method, filled, content=b"no JSON", headers={"content-type": "application/json"})
        assert (answer.status_code == 403) == (role not in may), (method, path, answer.text)
        if answer.status_code == 403:
            error = refused(answer, 403)
            assert error["code"] == "insufficient_permissions"
            assert f"has the role {role}" in error["message"]
            assert "tunesmith keys create NAME --role" in error["message"]


def test_read_only_upload_is_refused_before_its_body_is_read(app: FastAPI, store: Store, refused: Refused) -> None:
    def body() -> Iterator[bytes]:
        raise AssertionError("the body was asked for")
        yield b""

    raw = store.keys.create("reader", role="read-only")[0]
    refused(TestClient(app).post("/v1/files", content=body(), headers={"Authorization": f"Bearer {raw}"}), 403)


def test_answers_name_the_project_they_are_about(
    app: FastAPI, client: TestClient, store: Store, stranger: TestClient
) -> None:
    assert client.get("/v1/files").headers["openai-project"] == "default"
    other = store.projects.create("other").id
    assert client.get("/v1/files", headers={"OpenAI-Project": other}).headers["openai-project"] == other
    assert stranger.get("/v1/files").headers["openai-project"] not in ("default", other)
    assert "openai-project" not in TestClient(app).get("/v1/files").headers


def test_owner_works_in_the_project_of_the_header(client: TestClient, store: Store, rows: bytes) -> None:
    other = store.projects.create("other").id
    file = client.post(
        "/v1/files",
        data={"purpose": "fine-tune"},
        files={"file": ("a.jsonl", rows)},
        headers={"OpenAI-Project": other},
    ).json()
    assert client.get(f"/v1/files/{file['id']}").status_code == 404
    assert client.get(f"/v1/files/{file['id']}", headers={"OpenAI-Project": other}).status_code == 200


def test_header_of_another_project_is_refused_with_the_cure(
    client: TestClient, stranger: TestClient, store: Store, refused: Refused
) -> None:
    own = stranger.get("/v1/files").headers["openai-project"]
    assert stranger.get("/v1/files", headers={"OpenAI-Project": own}).status_code == 200
    error = refused(stranger.get("/v1/files", headers={"OpenAI-Project": "default"}), 401)
    assert error["code"] == "mismatched_project"
    assert "OPENAI_PROJECT_ID" in error["message"]
    archived = store.projects.create("old").id
    store.projects.archive(archived)
    for unknown in ("proj_of_openai", archived):
        error = refused(client.get("/v1/files", headers={"OpenAI-Project": unknown}), 401)
        assert unknown in error["message"]
    assert client.get("/v1/files", headers={"OpenAI-Project": ""}).status_code == 200


def test_paths_of_this_test_are_those_of_the_application(app: FastAPI) -> None:
    paths = {path for _, path in operations(app)}
    assert {path for _, path in EVERY_ROLE} <= paths
    assert compile_path("/v1/models/{name:path}")[1] in paths
