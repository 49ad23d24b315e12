"""What the server has answered goes back in as history: cut calls, parsed messages, and what clients add to them."""

import json
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel
from starlette.testclient import TestClient
from tests.api.chat.conftest import Told

from tunesmith.render.renderer import Renderer

Json = dict[str, Any]
CHAT = "/v1/chat/completions"
USER = {"role": "user", "content": "Weather in Wuhan?"}
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "武汉"}}\n</tool_call>'
FUNCTION = {"name": "get_weather", "parameters": {"type": "object"}}
STYLES: dict[str, Json] = {
    "tools": {"tools": [{"type": "function", "function": FUNCTION}]},
    "functions": {"functions": [FUNCTION]},
}


def answer(client: TestClient, **fields: Any) -> Json:
    """The first choice's message and finish_reason, of a plain answer or put together from a stream."""
    sent = client.post(CHAT, json={"model": "gpt-3.5-turbo", "messages": [USER], **fields})
    assert sent.status_code == 200, sent.text
    if not fields.get("stream"):
        choice: Json = sent.json()["choices"][0]
        return choice
    made: Json = {"message": {"role": "assistant", "content": ""}, "finish_reason": None}
    for line in sent.text.split("\n\n")[:-2]:
        choice = json.loads(line.removeprefix("data: "))["choices"][0]
        add(made["message"], choice["delta"])
        made["finish_reason"] = made["finish_reason"] or choice["finish_reason"]
    return made


def add(message: Json, delta: Json) -> None:
    """As clients do: indices stay in what they keep."""
    message["content"] += delta.get("content") or ""
    for call in delta.get("tool_calls", ()):
        calls = message.setdefault("tool_calls", [])
        if "id" in call:
            calls.append(call)
        else:
            calls[call["index"]]["function"]["arguments"] += call["function"]["arguments"]
    if called := delta.get("function_call"):
        kept = message.setdefault("function_call", {"arguments": ""})
        kept |= {"name": called.get("name", kept.get("name")), "arguments": kept["arguments"] + called["arguments"]}


def replies(message: Json) -> list[Json]:
    """What a program sends after a call: its result."""
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "?"} for call in message.get("tool_calls", ())]
    if "function_call" in message:
        results.append({"role": "function", "name": message["function_call"]["name"], "content": "?"})
    return results or [USER]


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("style", STYLES)
def test_an_answer_cut_anywhere_in_a_call_goes_back_in(
    told: Told, renderer: Renderer, style: str, streamed: bool
) -> None:
    client, teller = told(CALL)
    seen = set()
    for length in range(1, len(renderer.encode(CALL)) + 1):
        made = answer(client, **STYLES[style], max_tokens=length, stream=streamed)
        message = made["message"]
        history = [USER, message, *replies(message)]
        answer(client, **STYLES[style], messages=history, stream=streamed)
        calls = [call["function"] for call in message.get("tool_calls", ())] or [message.get("function_call")]
        if calls[0]:
            written = calls[0]["arguments"]
            seen.add(written)
            assert f'"arguments": {written or "{}"}' in teller.prompt
    assert {'{"', '{"city":', '{"city": "武汉"}'} <= seen


@pytest.mark.parametrize(
    ("arguments", "rendered"),
    [
        ("", "{}"),
        ("  ", "{}"),
        ("null", "null"),
        ("[1, 2]", "[1, 2]"),
        ('{"city": }', '{"city": }'),
        ('{"city":', '{"city":'),
        ('{"n": ' + "9" * 5000 + "}", '{"n": ' + "9" * 50),
        ("Wuhan", '"Wuhan"'),
    ],
    ids=["empty", "blank", "null", "array", "broken", "cut", "huge", "text"],
)
def test_arguments_are_rendered_as_the_model_wrote_them(told: Told, arguments: str, rendered: str) -> None:
    client, teller = told("Sunny.")
    called = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}
    message = {"role": "assistant", "content": None, "tool_calls": [called]}
    answer(client, messages=[USER, message, *replies(message)])
    assert f'{{"name": "get_weather", "arguments": {rendered}' in teller.prompt


class City(BaseModel):
    city: Literal["Paris", "Rome"]


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # of the client about its own class
@pytest.mark.parametrize("form", ["object", "dump", "json"])
def test_a_parsed_message_goes_back_in(told: Told, form: str) -> None:
    transport, teller = told('{"city":"Rome"}')
    client = openai.OpenAI(api_key="-", base_url="http://testserver/v1", http_client=transport, max_retries=0)
    client = client.with_options(default_headers={"Authorization": transport.headers["Authorization"]})
    asked: Any = [{"role": "user", "content": "Which city?"}]
    parsed = client.chat.completions.parse(model="gpt-4o-mini", messages=asked, response_format=City)
    message = parsed.choices[0].message
    assert message.parsed == City(city="Rome")
    kept: Any = {"object": message, "dump": message.model_dump(), "json": json.loads(message.to_json())}[form]
    again = client.chat.completions.parse(
        model="gpt-4o-mini",
        messages=[*asked, kept, {"role": "user", "content": "Sure?"}],
        response_format=City,
        store=True,
    )
    assert '{"city":"Rome"}' in teller.prompt
    stored = client.chat.completions.messages.list(again.id).data
    assert [one.content for one in stored] == ["Which city?", '{"city":"Rome"}', "Sure?"]
    back: Any = [one.model_dump() for one in stored]
    assert client.chat.completions.create(model="gpt-4o-mini", messages=back).choices[0].finish_reason == "stop"
