"""/v1/models with bases, aliases, tuned models and checkpoints."""

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient
from tests.api.conftest import Json, Refused, Valid

from tunesmith.store import Store


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


@pytest.mark.parametrize("name", ["smollm2-135m-instruct", "gpt-3.5-turbo"])
def test_bases_and_aliases_cannot_be_deleted(client: TestClient, refused: Refused, name: str) -> None:
    assert "cannot be deleted" in refused(client.delete(f"/v1/models/{name}"))["message"]
