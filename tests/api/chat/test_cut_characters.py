"""An answer that `max_tokens` ends inside a character: whole characters, and the bytes of every token."""

import json
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.api.chat.conftest import Told

from tunesmith.render.renderer import Renderer

TEXT = "Cold 🥶 武汉"
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}], "logprobs": True}
PLAIN: dict[str, Any] = {"prompt": "Hi", "logprobs": 0}


def answered(client: TestClient, path: str, body: dict[str, Any], length: int, streamed: bool) -> tuple[str, list[Any]]:
    """The whole text, and the entries of log-probabilities (tokens for /v1/completions)."""
    body = {"model": "gpt-3.5-turbo", **body, "max_tokens": length, "stream": streamed}
    sent = client.post(path, json=body)
    assert sent.status_code == 200, sent.text
    lines = sent.text.split("\n\n")[:-2] if streamed else [sent.text]
    text, entries = "", []
    for choice in (json.loads(line.removeprefix("data: "))["choices"][0] for line in lines):
        content = choice.get("message", choice.get("delta", choice))
        text += content.get("content", content.get("text")) or ""
        entries += (choice["logprobs"] or {}).get("content", (choice["logprobs"] or {}).get("tokens", []))
    return text, entries


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_a_character_that_is_not_whole_is_left_out(told: Told, renderer: Renderer, path: str, streamed: bool) -> None:
    client, _ = told(TEXT)
    ids = renderer.encode(TEXT)
    cut = 0
    for length in range(1, len(ids)):
        written = b"".join(renderer.token_bytes(token) for token in ids[:length])
        whole = written.decode(errors="ignore")
        cut += whole.encode() != written
        text, entries = answered(client, path, CHAT if "chat" in path else PLAIN, length, streamed)
        assert text == whole
        assert len(entries) == length
        if "chat" in path:
            assert b"".join(bytes(entry["bytes"]) for entry in entries) == written
    assert cut >= 4
