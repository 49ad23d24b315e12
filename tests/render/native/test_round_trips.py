"""Rows -> tokens -> text -> calls: what is learned is read back as it was, whole and in pieces."""

import json
import random
from pathlib import Path

import pytest
from tests.render.native.families import FAMILIES, family_renderers

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.render.renderer import Renderer
from tunesmith.render.tool_call_reader import ReplyPart, parse_reply
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
        reader = renderer.reader(opening, with_calls=True)
        assert reader is not None
        parts: list[ReplyPart] = []
        while text:
            length = choose.randint(1, 12)
            parts.append(reader.add(text[:length]))
            text = text[length:]
        parts.append(reader.finish())
        calls = [call for part in parts for call in part.calls]
        assert [call.name for call in calls if call.name is not None] == [name for name, _ in expected]
        assert "".join(call.arguments for call in calls) == "".join(call.arguments for call in parsed.calls)
        assert "".join(part.text for part in parts) == (parsed.content or "")
