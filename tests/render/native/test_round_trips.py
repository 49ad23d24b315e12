"""Rows -> tokens -> text -> calls: what is learned is read back as it was, whole and in pieces."""

import json
import random
from pathlib import Path

import pytest
from tests.render.native.families import FAMILIES, family_renderers

from tunesmith.errors import DataError
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.render.renderer import Renderer
from tunesmith.render.tool_call_reader import Reader, ReplyPart, parse_reply
from tunesmith.rows.row import ChatRow, build_row

CASES = 200
TYPES = {"s": "string", "n": "number", "b": "boolean", "o": "object", "l": "array"}
TOOLS: list[JsonObject] = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": "Does it.",
            "parameters": {"type": "object", "properties": {key: {"type": kind} for key, kind in TYPES.items()}},
        },
    }
    for name in ("do_it", "other-fn")
]
VALUES: dict[str, list[JsonValue]] = {
    "s": [
        "Paris",
        "naïve 你好 🙂",
        'a "b" c',
        "x\ny",
        "{}",
        "[1]",
        "true",
        "5",
        "a<b>c",
        "it's",
        "C:\\dir",
        "</tool_call>",
    ],
    "n": [1, -2.5, 10_000],
    "b": [True, False],
    "o": [{}, {"k": "v", "n": {"m": [1, True, None]}}],
    "l": [[], ["a", 1]],
}


def generated(choose: random.Random, most_calls: int) -> JsonObject:
    calls: list[JsonValue] = []
    for number in range(choose.randint(1, most_calls)):
        arguments = {key: choose.choice(VALUES[key]) for key in TYPES if choose.random() < 0.5}
        function: JsonObject = {
            "name": choose.choice(("do_it", "other-fn")),
            "arguments": json.dumps(arguments, ensure_ascii=False),
        }
        calls.append({"id": f"call0000{number}", "type": "function", "function": function})
    return {"role": "assistant", "content": choose.choice([None, "Let me see."]), "tool_calls": calls}


@pytest.fixture(scope="module")
def renderers(base_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Renderer]:
    return family_renderers(base_dir, tmp_path_factory.mktemp("trips"))


@pytest.mark.parametrize("name", FAMILIES)
def test_calls_are_read_back_as_they_were(renderers: dict[str, Renderer], name: str) -> None:
    renderer, choose = renderers[name], random.Random(name)
    for _ in range(CASES):
        message = generated(choose, 1 if name == "channels" else 3)
        row = build_row({"messages": [{"role": "user", "content": "Do."}, message], "tools": [*TOOLS]})
        assert isinstance(row, ChatRow)
        example = renderer.examples(row).examples[-1]
        learned = [token for token, weight in zip(example.ids, example.weights, strict=True) if weight]
        text = renderer.decode(learned[:-1])
        opening = renderer.opening(row.messages[:1], row.tools, renderer.prompt(row.messages[:1], row.tools))
        parsed = parse_reply(text, renderer.reader(opening, with_calls=True))
        expected = [(call.name, json.loads(call.arguments)) for call in row.messages[1].tool_calls]
        assert [(call.name, json.loads(call.arguments)) for call in parsed.calls] == expected, text
        parts = in_pieces(renderer.reader(opening, with_calls=True), text, choose)
        calls = [call for part in parts for call in part.calls]
        assert [call.name for call in calls if call.name is not None] == [name for name, _ in expected]
        assert "".join(call.arguments for call in calls) == "".join(call.arguments for call in parsed.calls)
        assert "".join(part.text for part in parts) == (parsed.content or "")


THOUGHTS = [
    "The user wants it done.",
    'First a.\n\nThen b: {"s": 1}?\nYes.',
    "I may call functions.do_it to=functions.other-fn now",
    "analysis 你好 🙂 <json>",
]
THINKING = ("tagged", "channels")  # the families that write a thought beside calls


@pytest.mark.parametrize("name", THINKING)
def test_a_thought_beside_calls_is_read_back_as_it_was(renderers: dict[str, Renderer], name: str) -> None:
    renderer, choose = renderers[name], random.Random(name)
    for _ in range(CASES):
        thought = choose.choice(THOUGHTS)
        message = {**generated(choose, 1 if name == "channels" else 3), "content": None, "reasoning_content": thought}
        row = build_row({"messages": [{"role": "user", "content": "Do."}, message], "tools": [*TOOLS]})
        assert isinstance(row, ChatRow)
        example = renderer.examples(row).examples[-1]
        learned = [token for token, weight in zip(example.ids, example.weights, strict=True) if weight]
        text = renderer.decode(learned[:-1])
        opening = renderer.opening(row.messages[:1], row.tools, renderer.prompt(row.messages[:1], row.tools))
        parsed = parse_reply(text, renderer.reader(opening, with_calls=True))
        expected = [(call.name, json.loads(call.arguments)) for call in row.messages[1].tool_calls]
        assert [(call.name, json.loads(call.arguments)) for call in parsed.calls] == expected, text
        assert (parsed.reasoning, parsed.content) == (thought, None), text
        parts = in_pieces(renderer.reader(opening, with_calls=True), text, choose)
        assert "".join(part.reasoning for part in parts) == thought
        assert "".join(part.text for part in parts) == ""
        calls = [call for part in parts for call in part.calls]
        assert [call.name for call in calls if call.name is not None] == [name for name, _ in expected]
        assert "".join(call.arguments for call in calls) == "".join(call.arguments for call in parsed.calls)


def test_a_thought_is_refused_where_the_prompt_has_ended_it(renderers: dict[str, Renderer]) -> None:
    """The template writes it beside calls; beside a text it leaves it out."""
    thought: JsonObject = {"role": "assistant", "content": "Done.", "reasoning_content": "It is to be done."}
    called = {**generated(random.Random(1), 1), "content": None, "reasoning_content": "It is to be done."}
    rows = [
        build_row({"messages": [{"role": "user", "content": "Do."}, said], "tools": [*TOOLS]})
        for said in (thought, called)
    ]
    assert all(isinstance(row, ChatRow) for row in rows)
    example = renderers["always"].examples(rows[0]).examples[-1]  # type: ignore[arg-type]
    assert "to be done" not in renderers["always"].decode(example.ids)
    with pytest.raises(DataError, match="begins every answer without thinking, so an answer that thinks cannot follow"):
        renderers["always"].examples(rows[1])  # type: ignore[arg-type]


def in_pieces(reader: Reader | None, text: str, choose: random.Random) -> list[ReplyPart]:
    """What the reader finds in a text that arrives in pieces of some characters."""
    assert reader is not None
    parts: list[ReplyPart] = []
    while text:
        length = choose.randint(1, 12)
        parts.append(reader.add(text[:length]))
        text = text[length:]
    return [*parts, reader.finish()]
