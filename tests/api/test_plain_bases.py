"""A base without a chat template over HTTP: it is trained on text and continues text, and chats are refused."""

from pathlib import Path

import pytest
import torch
from starlette.testclient import TestClient
from tests.api.conftest import Json, Refused, Upload
from tests.render.bases import VOCABULARY, make_base, starts_text
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from tunesmith.models.directory import present_directory
from tunesmith.models.registry import resolve_base
from tunesmith.settings import Settings

TEXTS = b'{"prompt": "a", "completion": "b"}\n' * 10
START = "<|begin|>"


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(params=["directory", "hub"])
def settings(
    tmp_path: Path, base_dir: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    place = str(_make(tmp_path, base_dir))
    if request.param == "hub":
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        place = _as_fetched(Path(place), tmp_path / "hub")
    return Settings(data_dir=tmp_path / "data", bases={"plain": place}, serve_weights="float32")


def _as_fetched(directory: Path, cache: Path) -> str:
    """The repository whose newest commit is in the hub's cache, with the files of `directory`."""
    repository = cache / "models--owner--plain"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    (repository / "snapshots").mkdir()
    directory.rename(repository / "snapshots" / COMMIT)
    return "owner/plain"


def _make(tmp_path: Path, base_dir: Path) -> Path:
    directory = make_base(
        base_dir,
        tmp_path / "plain",
        None,
        special=(START,),
        post_processor=starts_text(START, VOCABULARY),
        config={"bos_token": START},
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY + 8,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=256,
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    return directory


def test_a_job_on_chats_is_refused_before_it_exists(client: TestClient, upload: Upload, refused: Refused) -> None:
    body = {"model": "plain", "training_file": upload()["id"]}
    error = refused(client.post("/v1/fine_tuning/jobs", json=body))
    assert error["param"] == "training_file"
    assert "holds chat rows. The base has no chat template" in error["message"]
    assert "Train it on prompt/completion rows and ask it through /v1/completions" in error["message"]
    assert client.get("/v1/fine_tuning/jobs").json()["data"] == []


def test_a_validation_file_of_chats_is_refused_too(client: TestClient, upload: Upload, refused: Refused) -> None:
    body = {"model": "plain", "training_file": upload(TEXTS)["id"], "validation_file": upload()["id"]}
    assert refused(client.post("/v1/fine_tuning/jobs", json=body))["param"] == "validation_file"


def test_a_job_on_prompts_and_completions_is_taken(client: TestClient, upload: Upload) -> None:
    answer = client.post("/v1/fine_tuning/jobs", json={"model": "plain", "training_file": upload(TEXTS)["id"]})
    assert answer.status_code == 200, answer.text


def test_it_continues_text_and_refuses_to_chat(client: TestClient, refused: Refused, settings: Settings) -> None:
    directory = present_directory(resolve_base("plain", settings), settings)
    assert directory is not None
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    body: Json = {"model": "plain", "prompt": "Cold in Wuhan?", "max_tokens": 3, "temperature": 0}
    answer = client.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["prompt_tokens"] == len(tokenizer.encode("Cold in Wuhan?").ids)  # with its start
    chat = {"model": "plain", "messages": [{"role": "user", "content": "Cold?"}]}
    error = refused(client.post("/v1/chat/completions", json=chat))
    assert error["param"] == "model"
    assert "ask it through /v1/completions" in error["message"]
