"""Structured answers of the real base, from the request's JSON to the pieces that are shown."""

import json
from typing import Any

import jsonschema_rs
import pytest

from tunesmith.serve.chat.answer import Piece, start_chat
from tunesmith.serve.chat.request import chat_request
from tunesmith.serve.loaded_model import LoadedModel
from tunesmith.wire.body import read
from tunesmith.wire.chat.bodies import Chat

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "maximum": 150}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
LOOKUP = {"name": "look_up", "parameters": PERSON}
WEATHER = {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}


def tools(*functions: dict[str, Any], strict: bool = False) -> list[dict[str, Any]]:
    return [{"type": "function", "function": {**function, "strict": strict}} for function in functions]


def answer(opened: LoadedModel, text: str = "Describe Ada, 36 years old.", **fields: Any) -> list[Piece]:
    body = {"model": "m", "messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 50, **fields}
    return list(start_chat(chat_request(read(Chat, body)), opened, 4096))


def content(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def calls(pieces: list[Piece]) -> list[tuple[str, str]]:
    deltas = [call for piece in pieces for call in piece.calls]
    return [
        (opened.name, "".join(delta.arguments for delta in deltas if delta.index == opened.index))
        for opened in deltas
        if opened.name is not None
    ]


@pytest.mark.parametrize("sampled", [{}, {"temperature": 1.5, "seed": 3, "frequency_penalty": 1.0}])
def test_an_answer_is_json_of_its_schema(opened: LoadedModel, sampled: dict[str, Any]) -> None:
    pieces = answer(opened, response_format=FORMAT, **sampled)
    assert pieces[-1].finish == "stop"
    jsonschema_rs.validate(PERSON, json.loads(content(pieces)))


def test_a_structured_answer_streams_and_may_be_cut_only_by_the_limit(opened: LoadedModel) -> None:
    pieces = answer(opened, response_format=FORMAT, max_tokens=8)
    assert (pieces[-1].finish, content(pieces)[:1]) == ("length", "{")
    assert sum(bool(piece.text) for piece in pieces) > 3


def test_choices_are_held_to_the_schema_each_for_itself(opened: LoadedModel) -> None:
    pieces = answer(opened, response_format=FORMAT, n=2, seed=1, temperature=1.2)
    for choice in range(2):
        own = [piece for piece in pieces if piece.choice == choice]
        assert own[-1].finish == "stop"
        jsonschema_rs.validate(PERSON, json.loads(content(own)))


def test_json_mode_writes_an_object(opened: LoadedModel) -> None:
    pieces = answer(opened, "Answer in JSON: what is 2+2?", response_format={"type": "json_object"}, max_tokens=20)
    if pieces[-1].finish == "stop":
        assert isinstance(json.loads(content(pieces)), dict)
    assert content(pieces).startswith("{")


@pytest.mark.parametrize(
    "forced",
    [
        {"tools": tools(LOOKUP), "tool_choice": "required", "parallel_tool_calls": False},
        {"tools": tools(WEATHER, LOOKUP), "tool_choice": {"type": "function", "function": {"name": "look_up"}}},
        {"functions": [WEATHER, LOOKUP], "function_call": {"name": "look_up"}},
    ],
)
def test_a_forced_call_comes_alone_and_valid(opened: LoadedModel, forced: dict[str, Any]) -> None:
    pieces = answer(opened, **forced)
    assert content(pieces) == ""
    ((name, arguments),) = calls(pieces)
    assert name == "look_up"
    jsonschema_rs.validate(PERSON, json.loads(arguments))
    assert pieces[-1].finish == ("function_call" if "functions" in forced else "tool_calls")


def test_a_forced_call_cut_by_the_limit_says_so(opened: LoadedModel) -> None:
    cut = answer(opened, tools=tools(LOOKUP), tool_choice="required", max_tokens=22)
    assert (cut[-1].finish, content(cut), calls(cut)[0][0]) == ("length", "", "look_up")
    early = answer(opened, tools=tools(LOOKUP), tool_choice="required", max_tokens=6)
    assert (early[-1].finish, content(early), calls(early)) == ("length", "", [])


def test_strict_tools_leave_free_text_free(opened: LoadedModel) -> None:
    free = answer(opened, "What is the capital of France?", tools=tools(WEATHER), max_tokens=12)
    held = answer(opened, "What is the capital of France?", tools=tools(WEATHER, strict=True), max_tokens=12)
    assert content(held) == content(free) != ""
    assert held[-1].finish == free[-1].finish
