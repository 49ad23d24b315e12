"""/v1/models with bases, aliases, tuned models and checkpoints."""

import re
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import text
from starlette.testclient import TestClient
from tests.api.conftest import Json, Refused, Valid
from tests.store.objects.test_imports import FILE, JOB, NAME

from tunesmith.api.app import create_app
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import Store, open_store

CHAT = "/v1/chat/completions"
PARIS = [{"role": "user", "content": "What is the capital of France?"}]


def test_list_has_bases_and_says_what_an_alias_stands_for(client: TestClient, valid: Valid) -> None:
    answer = client.get("/v1/models").json()
    valid("ListModelsResponse", answer)
    owners = {model["id"]: model["owned_by"] for model in answer["data"]}
    assert owners["smollm2-135m-instruct"] == "tunesmith"
    assert owners["gpt-3.5-turbo"] == "alias-of:smollm2-135m-instruct"


def test_retrieve_gives_the_entry_of_the_list(client: TestClient, valid: Valid) -> None:
    for listed in client.get("/v1/models").json()["data"]:
        model = client.get(f"/v1/models/{listed['id']}").json()
        assert model == listed
        assert list(model) == ["id", "object", "created", "owned_by"]
        valid("Model", model)


def test_tuned_model_and_checkpoints_are_listed_retrieved_and_deleted(
    client: TestClient, finished_job: Json, valid: Valid, refused: Refused
) -> None:
    names = [point["fine_tuned_model_checkpoint"] for point in finished_job["checkpoints"]]
    tuned = finished_job["fine_tuned_model"]
    assert names[0] == tuned
    listed = {model["id"]: model for model in client.get("/v1/models").json()["data"]}
    assert all(listed[name]["owned_by"] == "acme" for name in names)
    assert client.get(f"/v1/models/{tuned}").json() == listed[tuned]
    answer = client.delete(f"/v1/models/{tuned}").json()
    assert answer == {"id": tuned, "object": "model", "deleted": True}
    valid("DeleteModelResponse", answer)
    refused(client.get(f"/v1/models/{tuned}"), 404)
    assert client.get(f"/v1/models/{names[1]}").status_code == 200


def test_tuned_model_tells_the_system_message_of_its_training_file(
    client: TestClient, finished_job: Json, store: Store, valid: Valid
) -> None:
    name, job_id = finished_job["fine_tuned_model"], finished_job["id"]
    with store.database.write() as connection:
        connection.execute(text("UPDATE jobs SET system_message = 'Be brief.' WHERE id = :id"), {"id": job_id})
    for model in (name, finished_job["checkpoints"][1]["fine_tuned_model_checkpoint"]):
        found = client.get(f"/v1/models/{model}").json()
        assert found["tunesmith"] == {"system_message": "Be brief."}
        valid("Model", found)
    assert [model for model in client.get("/v1/models").json()["data"] if "tunesmith" in model] == []


def test_the_end_of_a_model_names_the_imported_ones_that_its_weights_stay_for(
    client: TestClient, store: Store, finished_job: Json
) -> None:
    assert store.imports.add([(FILE, [b"{}\n"])], [(JOB, [], [])])
    tuned = finished_job["fine_tuned_model"]
    store.models.replace(NAME, tuned)
    gone = {"object": "model", "deleted": True}
    assert client.delete(f"/v1/models/{tuned}").json() == {
        **{"id": tuned, **gone},
        "tunesmith": {"still_answers_as": [NAME]},
    }
    assert client.delete(f"/v1/models/{NAME}").json() == {"id": NAME, **gone}


def test_percent_encoded_name_of_the_2023_client_routes(client: TestClient, finished_job: Json) -> None:
    quoted = finished_job["fine_tuned_model"].replace(":", "%3A")
    assert client.get(f"/v1/models/{quoted}").json()["id"] == finished_job["fine_tuned_model"]


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("name", ["fake_id", "Qwen%2FQwen2.5-0.5B"])
def test_unknown_model_is_told_in_the_recorded_words(
    client: TestClient, refused: Refused, method: str, name: str
) -> None:
    error = refused(client.request(method, f"/v1/models/{name}"), 404)
    assert error == {
        "message": f"The model '{name.replace('%2F', '/')}' does not exist",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("smollm2-135m-instruct", "is a base model, and cannot be deleted"),
        ("gpt-3.5-turbo", 'cannot be deleted; .* write "gpt-3.5-turbo" = "" under \\[aliases\\] in tunesmith.toml'),
    ],
)
def test_bases_and_aliases_cannot_be_deleted(client: TestClient, refused: Refused, name: str, said: str) -> None:
    assert re.search(said, refused(client.delete(f"/v1/models/{name}"))["message"])


def test_an_owner_sets_an_alias_which_other_servers_know_at_once(
    client: TestClient, settings: Settings, store: Store, key: str, valid: Valid
) -> None:
    answer = client.post("/v1/models/acme/fast", json={"base": "gpt-4o-mini"}).json()
    assert answer["owned_by"] == "alias-of:smollm2-135m-instruct"
    other_store = open_store(settings)
    with TestClient(create_app(settings, other_store, Pool(settings))) as other:
        other.headers["Authorization"] = f"Bearer {key}"
        found = other.get("/v1/models/acme/fast").json()
        valid("Model", found)
        assert found["owned_by"] == "alias-of:smollm2-135m-instruct"
        assert other.delete("/v1/models/acme/fast").json() == {"id": "acme/fast", "object": "model", "deleted": True}
    other_store.close()
    assert client.get("/v1/models/acme/fast").status_code == 404


def test_an_alias_in_the_database_comes_before_the_settings_which_return_with_its_end(
    app: FastAPI, store: Store, key: str, base_dir: Path
) -> None:
    settings = Settings(data_dir=store.models._root, bases={"other": str(base_dir)}, aliases={"fast": "other"})
    with TestClient(create_app(settings, store, Pool(settings))) as client:
        client.headers["Authorization"] = f"Bearer {key}"

        def owner(name: str) -> str:
            return str(client.get(f"/v1/models/{name}").json()["owned_by"])

        assert owner("fast") == "alias-of:other"
        for name, base in (("fast", "smollm2-135m-instruct"), ("gpt-4o-mini", "other")):
            assert client.post(f"/v1/models/{name}", json={"base": base}).status_code == 200
        assert (owner("fast"), owner("gpt-4o-mini")) == ("alias-of:smollm2-135m-instruct", "alias-of:other")
        for name in ("fast", "gpt-4o-mini"):
            assert client.delete(f"/v1/models/{name}").status_code == 200
        assert (owner("fast"), owner("gpt-4o-mini")) == ("alias-of:other", "alias-of:smollm2-135m-instruct")


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        ("smollm2-135m-instruct", {"base": "gpt-4o"}, "is the name of a base itself"),
        ("ft:a:b", {"base": "smollm2-135m-instruct"}, "tunesmith models replace OLD NEW"),
        ("fast", {"base": "nothing"}, "Bases here: smollm2-135m-instruct."),
        ("fast", {"base": "fast"}, "Bases here: smollm2-135m-instruct."),
        ("fast", {}, "base"),
        ("fast", {"base": 3}, "base"),
    ],
    ids=["a base", "a tuned model", "unknown", "itself", "missing", "number"],
)
def test_what_is_no_alias_is_refused_with_the_cure(
    client: TestClient, refused: Refused, store: Store, name: str, body: Json, said: str
) -> None:
    answer = client.post(f"/v1/models/{name}", json=body)
    assert said in refused(answer, 400)["message"]
    assert dict(store.aliases.all()) == {}


def test_only_owners_set_aliases(client: TestClient, store: Store, refused: Refused) -> None:
    raw, _ = store.keys.create("member", role="member")
    headers = {"Authorization": f"Bearer {raw}"}
    answer = client.post("/v1/models/fast", json={"base": "smollm2-135m-instruct"}, headers=headers)
    assert "only one with the role owner sets aliases" in refused(answer, 403)["message"]
    assert client.delete("/v1/models/fast", headers=headers).status_code == 403
    assert dict(store.aliases.all()) == {}


def test_members_give_a_tuned_model_a_name_to_show(
    client: TestClient, store: Store, finished_job: Json, refused: Refused
) -> None:
    tuned = finished_job["fine_tuned_model"]
    store.models.get(tuned).adapter_dir.mkdir(parents=True, exist_ok=True)  # type: ignore[union-attr]
    raw, _ = store.keys.create("member", role="member")
    member, path = {"Authorization": f"Bearer {raw}"}, f"/v1/models/{tuned}/display_name"
    named = client.post(path, json={"display_name": " Weather \n desk "}, headers=member).json()
    assert (named["id"], named["tunesmith"]["display_name"]) == (tuned, "Weather desk")
    assert client.get(f"/v1/models/{tuned}").json() == named
    assert client.post(path, json={"display_name": ""}).json() == client.get(f"/v1/models/{tuned}").json()
    assert "display_name" not in client.get(f"/v1/models/{tuned}").json().get("tunesmith", {})
    said = refused(client.post(path, json={"display_name": "x" * 81}), 400)
    assert (said["param"], "The name has 81 characters" in said["message"]) == ("display_name", True)
    assert refused(client.post(path, json={}), 400)["param"] == "display_name"
    for name in ("ft:none", "smollm2-135m-instruct", "gpt-3.5-turbo"):
        refused(client.post(f"/v1/models/{name}/display_name", json={"display_name": "a"}), 404)
    raw, _ = store.keys.create("reader", role="read-only")
    reader = {"Authorization": f"Bearer {raw}"}
    assert "names" in refused(client.post(path, json={"display_name": "a"}, headers=reader), 403)["message"]
    raw, _ = store.keys.create("other", role="owner", project=store.projects.create("other").id)
    other = {"Authorization": f"Bearer {raw}"}
    refused(client.post(path, json={"display_name": "a"}, headers=other), 404)


def test_an_alias_of_a_base_that_this_server_lacks_says_so_and_breaks_no_list(
    client: TestClient, store: Store, refused: Refused
) -> None:
    store.aliases.set("fast", "gone")
    assert "fast" not in {model["id"] for model in client.get("/v1/models").json()["data"]}
    body = {"model": "fast", "messages": [{"role": "user", "content": "Hi"}]}
    said = refused(client.post("/v1/chat/completions", json=body), 400)["message"]
    assert said.startswith("The alias fast was set for the base gone, which is not known here. Bases here: smollm2")
    assert client.get("/v1/models/fast").status_code == 404
    assert client.delete("/v1/models/fast").status_code == 200


@pytest.mark.parametrize(
    "path", [CHAT, "/v1/completions", "/v1/engines/{}/completions", "/v1/engines/{}/chat/completions"]
)
def test_a_model_whose_files_are_gone_is_refused_on_every_path(
    client: TestClient, tuned: str, store: Store, refused: Refused, path: str
) -> None:
    model = store.models.get(tuned)
    assert model is not None
    (model.adapter_dir / "manifest.json").unlink()
    asked = {"messages": PARIS} if path.endswith("chat/completions") else {"prompt": "The sea"}
    error = refused(client.post(path.format(tuned), json={"model": tuned, **asked}), 400)
    assert error["message"].startswith("This model has no usable adapter: its manifest.json is missing.")
    assert (error["param"], error["code"]) == ("model", "model_without_weights")


def test_a_name_of_openais_that_no_model_has_comes_with_the_cure(client: TestClient, refused: Refused) -> None:
    cures = {
        "gpt-4o": "To let a base answer to this name: tunesmith models alias gpt-4o BASE",
        "ft:gpt-4o-mini-2024-07-18:acme::a": "`tunesmith import openai FOLDER` brings its name",
    }
    for name, cure in cures.items():
        error = refused(client.post(CHAT, json={"model": name, "messages": PARIS}), 404)
        assert error["message"].startswith(f"The model '{name}' does not exist. GET /v1/models lists those that do. ")
        assert cure in error["message"]
        assert error["code"] == "model_not_found"
