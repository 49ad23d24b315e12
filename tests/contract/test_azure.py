"""OpenAI's client for Azure, against a real server: its header, its paths, and what it is told where they end."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam
from tests.servers import Server

BASE = "smollm2-135m-instruct"
ASK: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hi?"}]


@pytest.fixture(scope="module", params=["endpoint", "endpoint and deployment", "base_url"])
def azure(server: Server, request: pytest.FixtureRequest) -> Iterator[openai.AzureOpenAI]:
    root = server.base_url.removesuffix("/v1")
    where: dict[str, dict[str, str]] = {
        "endpoint": {"azure_endpoint": root},
        "endpoint and deployment": {"azure_endpoint": root, "azure_deployment": BASE},
        "base_url": {"base_url": server.base_url},
    }
    options = where[request.param]
    with openai.AzureOpenAI(api_key=server.key, api_version="2024-10-21", max_retries=0, **options) as client:  # type: ignore[call-overload]
        yield client


def test_azure_client_chats_and_streams(azure: openai.AzureOpenAI) -> None:
    answer = azure.chat.completions.create(model=BASE, messages=ASK, max_tokens=3)
    assert answer.model == BASE
    assert answer.usage is not None
    assert 1 <= answer.usage.completion_tokens <= 3
    chunks = list(azure.chat.completions.create(model=BASE, messages=ASK, max_tokens=3, stream=True))
    assert any(chunk.choices[0].delta.content for chunk in chunks if chunk.choices)


def test_azure_client_lists_models_and_keeps_files(azure: openai.AzureOpenAI, training_path: Path) -> None:
    assert BASE in [model.id for model in azure.models.list()]
    file = azure.files.create(file=training_path, purpose="fine-tune")
    assert azure.files.content(file.id).read() == training_path.read_bytes()
    assert azure.files.delete(file.id).deleted
    assert azure.fine_tuning.jobs.list(limit=1).data is not None


def test_azure_client_with_a_wrong_key_is_told_so(server: Server) -> None:
    root = server.base_url.removesuffix("/v1")
    client = openai.AzureOpenAI(api_key="sk-wrong-and-long", api_version="v1", azure_endpoint=root, max_retries=0)
    with pytest.raises(openai.AuthenticationError, match=r"Incorrect API key provided: sk-wr"):
        client.models.list()
    assert httpx.get(f"{root}/openai/v1/models").status_code == 401


def test_plain_client_at_azures_v1_path_works(server: Server) -> None:
    base_url = f"{server.base_url.removesuffix('/v1')}/openai/v1"
    with openai.OpenAI(base_url=base_url, api_key=server.key, max_retries=0) as client:
        assert BASE in [model.id for model in client.models.list()]
    assert httpx.get(f"{base_url}/models", headers={"api-key": server.key}).is_success


def test_bearer_comes_before_the_header_of_azure(server: Server) -> None:
    url = f"{server.base_url}/models"
    both = {"Authorization": "Bearer sk-wrong-and-long", "api-key": server.key}
    assert httpx.get(url, headers=both).status_code == 401
    assert httpx.get(url, headers={"Authorization": "Basic eA==", "api-key": server.key}).is_success


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("images/edits", "The models here write text only."),
        ("embeddings", "make no embeddings"),
        ("extensions/chat", "use OpenAI(base_url='http://HOST:PORT/v1', api_key=…) instead of AzureOpenAI(…)"),
    ],
)
def test_azure_path_that_is_not_here_says_what_to_use(server: Server, path: str, said: str) -> None:
    root = server.base_url.removesuffix("/v1")
    answer = httpx.post(f"{root}/openai/deployments/{BASE}/{path}", headers={"api-key": server.key}, json={})
    assert answer.status_code == 404
    assert said in answer.json()["error"]["message"]
