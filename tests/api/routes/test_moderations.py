"""POST /v1/moderations: OpenAI's shapes, honest about what is not covered, and every wrong input told."""

from collections.abc import Callable

import openai
import pytest
from fastapi import FastAPI
from httpx2 import Response
from starlette.testclient import TestClient
from tests.api.conftest import Ask, Json, Refused, Valid
from tests.moderation.servers import Answer, scripted

from tunesmith.api.app import create_app
from tunesmith.jsonvalue import JsonValue
from tunesmith.moderation.moderator import CATEGORIES
from tunesmith.serve.pool import Pool
from tunesmith.settings import Settings
from tunesmith.store import Store

ClientOf = Callable[..., TestClient]  # keyword arguments: changed settings
MODELS = ["omni-moderation-latest", "omni-moderation-2024-09-26", "text-moderation-latest", "text-moderation-stable"]


@pytest.fixture
def moderate(client: TestClient) -> Ask:
    def ask(**body: object) -> Response:
        answer = client.post("/v1/moderations", json=body)
        assert answer.status_code == 200, answer.text
        return answer

    return ask


@pytest.fixture
def client_of(store: Store, key: str, settings: Settings) -> ClientOf:
    """A client of a server whose settings differ from the ordinary ones."""

    def make(**changes: object) -> TestClient:
        changed = settings.model_copy(update=changes)
        return TestClient(create_app(changed, store, Pool(changed)), headers={"Authorization": f"Bearer {key}"})

    return make


def test_answer_has_openais_shape(moderate: Ask, valid: Valid) -> None:
    body = moderate(input="I will kill you.").json()
    valid("CreateModerationResponse", body)
    assert body["id"].startswith("modr-")
    (result,) = body["results"]
    assert list(result) == ["flagged", "categories", "category_scores", "category_applied_input_types"]
    for part in ("categories", "category_scores", "category_applied_input_types"):
        assert tuple(result[part]) == CATEGORIES
    assert result["flagged"] is True
    assert {name for name, flagged in result["categories"].items() if flagged} == {
        "harassment",
        "harassment/threatening",
    }
    assert result["category_scores"]["harassment/threatening"] == 0.7
    assert result["category_scores"]["violence"] == 0.0


def test_categories_that_are_not_covered_are_named(moderate: Ask) -> None:
    answer = moderate(input="Hello")
    applied = answer.json()["results"][0]["category_applied_input_types"]
    assert (applied["harassment"], applied["illicit"]) == (["text"], [])
    missing = [name for name, types in applied.items() if not types]
    assert answer.headers["x-tunesmith-not-covered"] == ", ".join(missing)


def test_text_in_a_language_that_is_not_covered_has_no_applied_types(moderate: Ask) -> None:
    answer = moderate(input=["Hello", "今天天气怎么样？"])
    read, unread = answer.json()["results"]
    assert read["category_applied_input_types"]["hate"] == ["text"]
    assert not any(unread["category_applied_input_types"].values())
    assert unread["flagged"] is False
    assert answer.headers["x-tunesmith-not-covered"].endswith("1 input(s) in a language it cannot read")


def test_one_result_for_each_text_in_order(moderate: Ask) -> None:
    results = moderate(input=["Hello", "You are such a stupid idiot.", "", "Bye"]).json()["results"]
    assert [result["flagged"] for result in results] == [False, True, False, False]


def test_parts_are_one_input(moderate: Ask) -> None:
    parts = [{"type": "text", "text": "Hello"}, {"type": "text", "text": "You are such a stupid idiot."}]
    (result,) = moderate(input=parts).json()["results"]
    assert result["flagged"] is True


@pytest.mark.parametrize("model", MODELS)
def test_openais_names_are_taken_and_the_judge_is_named(moderate: Ask, model: str) -> None:
    assert moderate(input="Hello", model=model).json()["model"].startswith("safetype-")


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({}, "input", "Missing required parameter: 'input'"),
        ({"input": None}, "input", "Missing required parameter: 'input'"),
        ({"input": []}, "input", "neither a text nor a list"),
        ({"input": 3}, "input", "neither a text nor a list"),
        ({"input": {"text": "x"}}, "input", "neither a text nor a list"),
        ({"input": ["a", 3]}, "input[1]", "3 is not a text"),
        ({"input": [[1, 2, 3]]}, "input[0]", "not a text"),
        ({"input": ["a"] * 1025}, "input", "1025 inputs are given; at most 1024"),
        ({"input": "a" * 1_000_001}, "input", "1,000,001 characters; at most 1,000,000"),
        ({"input": [{"type": "image_url", "image_url": {"url": "https://x"}}]}, "input[0]", "Images are not judged"),
        ({"input": [{"type": "text"}]}, "input[0].text", "None is not a text"),
        ({"input": [{"type": "text", "text": "a"}, "b"]}, "input[1]", "not a part"),
        ({"input": "a", "model": "gpt-4o"}, "model", "'gpt-4o' is not one of"),
        ({"input": "a", "model": 3}, "model", "3 is not one of"),
        ({"input": "a", "stream": True}, "stream", "Unknown parameter: 'stream'"),
        ([1], None, "must be a JSON object"),
    ],
)
def test_wrong_input_is_told(
    client: TestClient, refused: Refused, body: JsonValue, param: str | None, words: str
) -> None:
    error = refused(client.post("/v1/moderations", json=body))
    assert error["param"] == param
    assert words in error["message"]


def test_body_that_is_not_json_is_told(client: TestClient, refused: Refused) -> None:
    assert "not valid JSON" in refused(client.post("/v1/moderations", content=b"{"))["message"]


def test_key_is_needed(app: FastAPI, refused: Refused) -> None:
    with TestClient(app) as stranger:
        refused(stranger.post("/v1/moderations", json={"input": "x"}), 401)


def test_todays_client_reads_the_answer(client: TestClient, key: str) -> None:
    sdk = openai.OpenAI(api_key=key, base_url="http://testserver/v1", http_client=client)
    answer = sdk.moderations.create(input=["Hello", "I will kill you."], model="omni-moderation-latest")
    assert [result.flagged for result in answer.results] == [False, True]
    assert answer.results[1].categories.harassment_threatening is True
    assert answer.results[1].category_scores.harassment == 0.7
    assert answer.results[1].category_applied_input_types.illicit == []


def test_service_of_the_settings_is_asked(client_of: ClientOf) -> None:
    def answer(number: int, body: Json) -> Answer:
        categories = {name: name == "illicit" for name in CATEGORIES}
        scores = {name: 0.8 if on else 0.01 for name, on in categories.items()}
        results = [{"flagged": True, "categories": categories, "category_scores": scores} for _ in body["input"]]
        return 200, {"results": results}, {}

    with scripted(answer) as server:
        body = (
            client_of(moderation_url=server.url, moderation_model="guard-1")
            .post("/v1/moderations", json={"input": "x"})
            .json()
        )
    assert body["model"] == "guard-1"
    assert body["results"][0]["categories"]["illicit"] is True
    assert body["results"][0]["category_scores"]["hate"] == 0.01


def test_service_that_is_down_is_a_503_with_the_cure(client_of: ClientOf, refused: Refused) -> None:
    with scripted(lambda number, body: (401, {"error": "no"}, {})) as server:
        answer = client_of(moderation_url=server.url).post("/v1/moderations", json={"input": "x"})
    error = refused(answer, 503)
    assert error["code"] == "moderation_unavailable"
    assert "moderation_url" in error["message"]


def test_server_set_to_ask_itself_says_so(client_of: ClientOf, refused: Refused) -> None:
    """What it sends carries a header; a server that gets it back and would ask on refuses."""
    with scripted(lambda number, body: (401, {}, {})) as server:
        client = client_of(moderation_url=server.url)
        client.post("/v1/moderations", json={"input": "x"})
        (_, headers, _) = server.requests[0]
        marked = {"x-tunesmith-moderation": headers["x-tunesmith-moderation"]}
        error = refused(client.post("/v1/moderations", json={"input": "x"}, headers=marked), 500)
    assert "this server itself" in error["message"]
    assert len(server.requests) == 1


def test_moderation_off_for_training_still_answers(client_of: ClientOf) -> None:
    answer = client_of(moderation="off").post("/v1/moderations", json={"input": "I will kill you."})
    assert answer.json()["results"][0]["flagged"] is True
