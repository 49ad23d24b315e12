"""Chats with a base whose template knows tools: prompts, answers in its form, thoughts, and its switches."""
# ruff: noqa: E501  (answers are kept in one piece)

from pathlib import Path
from typing import Any

import pytest
from tests.render.bases import make_base
from tests.render.native.families import FAMILIES, family_base, theirs

from tunesmith.api.views.chat import Head, completion, piece_chunks
from tunesmith.errors import InvalidRequest
from tunesmith.render.renderer import Renderer, load_renderer
from tunesmith.serve.chat.answer import Piece, Reply, start_chat
from tunesmith.serve.chat.request import chat_request
from tunesmith.serve.chat.text import ChoiceText
from tunesmith.serve.engine.grammar import Grammars
from tunesmith.serve.engine.protocol import Delta, GenerateRequest, Generation
from tunesmith.serve.loaded_model import LoadedModel
from tunesmith.wire.body import read
from tunesmith.wire.chat.bodies import Chat

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells it.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Weather?"}]}


class ScriptedEngine:
    """Answers with the tokens it was given, and keeps the requests."""

    context_length = 4096
    fingerprint = "scripted"

    def __init__(self, tokens: list[int], end: int) -> None:
        self.tokens, self.end = tokens, end
        self.requests: list[GenerateRequest] = []

    def submit(self, request: GenerateRequest) -> Generation:
        self.requests.append(request)
        generation = Generation(request.n)
        for token in self.tokens:
            generation.put([Delta(0, token)])
        generation.put([Delta(0, self.end, finish="stop")])
        generation.end()
        return generation

    def close(self) -> None: ...

    def join(self, timeout: float | None = None) -> None: ...


@pytest.fixture(scope="module")
def renderers(base_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Renderer]:
    folder = tmp_path_factory.mktemp("answers")
    return {name: load_renderer(family_base(base_dir, folder, name)) for name in ("tagged", "channels", "keyed")}


def loaded(renderer: Renderer, answer: str) -> tuple[LoadedModel, ScriptedEngine]:
    ids = renderer._vocabulary.after((0,), answer, "written")
    engine = ScriptedEngine([*ids], min(renderer.eos_ids))
    return LoadedModel(engine, renderer, None, "f", Grammars(renderer)), engine


def ask(renderer: Renderer, answer: str, **fields: Any) -> tuple[list[Piece], Reply, ScriptedEngine]:
    model, engine = loaded(renderer, answer)
    reply = start_chat(chat_request(read(Chat, {**ASK, **fields})), model, 64)
    return list(reply), reply, engine


ANSWERS = {
    "tagged": '<think>\nHm.\n</think>\n\n<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>',
    "channels": "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant to=functions.weather<|channel|>commentary json"
    '<|message|>{"city": "Paris"}',
    "keyed": "\n<think>Hm.</think>\n<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n</tool_call>",
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_call_of_the_bases_form_comes_out(renderers: dict[str, Renderer], name: str) -> None:
    pieces, reply, engine = ask(renderers[name], ANSWERS[name], tools=[TOOL])
    whole = completion(Head("m", "f", False, False), pieces, reply.usage, 1)
    message = whole["choices"][0]["message"]
    assert message["content"] is None
    assert message["reasoning_content"] == "Hm."
    assert [call["function"] for call in message["tool_calls"]] == [
        {"name": "weather", "arguments": '{"city": "Paris"}'}
    ]
    assert whole["choices"][0]["finish_reason"] == "tool_calls"
    assert 0 < whole["usage"]["completion_tokens_details"]["reasoning_tokens"] < reply.usage.completion_tokens
    prompt = b"".join(renderers[name].token_bytes(token) for token in engine.requests[0].prompt).decode()
    assert prompt == theirs(FAMILIES[name], [{"role": "user", "content": "Weather?"}], [TOOL], prompt=True)


@pytest.mark.parametrize("name", ANSWERS)
def test_a_stream_says_the_same(renderers: dict[str, Renderer], name: str) -> None:
    pieces, _, _ = ask(renderers[name], ANSWERS[name], tools=[TOOL])
    chunks = [chunk for piece in pieces for chunk in piece_chunks(Head("m", "f", False, False), piece)]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "Hm."
    assert "".join(delta.get("content", "") for delta in deltas) == ""
    calls = [call for delta in deltas for call in delta.get("tool_calls", [])]
    assert "".join(call["function"]["arguments"] for call in calls) == '{"city": "Paris"}'


def test_a_thought_is_not_content_without_tools_either(renderers: dict[str, Renderer]) -> None:
    pieces, _, _ = ask(renderers["channels"], "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant"
                       "<|channel|>final<|message|>Four.")  # fmt: skip
    assert "".join(piece.text for piece in pieces) == "Four."
    assert "".join(piece.reasoning for piece in pieces) == "Hm."


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("tagged", '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>'),
        ("channels", ' to=functions.weather<|channel|>commentary json<|message|>{"city": "Paris"}'),
        ("keyed", '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>'),
    ],
    ids=["tagged", "channels", "keyed"],
)
def test_a_forced_call_is_held_to_the_words_of_the_base(renderers: dict[str, Renderer], name: str, call: str) -> None:
    pieces, _, engine = ask(renderers[name], call, tools=[TOOL], tool_choice="required", parallel_tool_calls=False)
    grammar = engine.requests[0].grammar
    assert grammar is not None
    matcher = grammar.start()
    for token in engine.tokens:
        allowed = matcher.allowed()
        assert allowed[token // 8] >> token % 8 & 1
        matcher.advance(token)
    assert matcher.finished
    arguments = "".join(part.arguments for piece in pieces for part in piece.calls)
    assert arguments == '{"city": "Paris"}'


def test_variables_reach_the_template(base_dir: Path, tmp_path: Path) -> None:
    family = FAMILIES["tagged"]
    switched = family.template.replace(
        "{{- '<|im_start|>assistant\n' }}{% endif %}",
        "{{- '<|im_start|>assistant\n' }}{% if enable_thinking is defined and not enable_thinking %}"
        "{{- '<think>\n\n</think>\n\n' }}{% endif %}{{- mood or '' }}{% endif %}",
    )
    assert switched != family.template
    FAMILIES["switched"] = type(family)(switched, family.special, family.plain)
    try:
        renderer = load_renderer(family_base(base_dir, tmp_path, "switched"))
    finally:
        del FAMILIES["switched"]

    def prompt(**fields: Any) -> str:
        _, _, engine = ask(renderer, "Hi.", **fields)
        return b"".join(renderer.token_bytes(token) for token in engine.requests[0].prompt).decode()

    plain = prompt()
    assert prompt(reasoning_effort="none") == plain + "<think>\n\n</think>\n\n"
    assert prompt(reasoning_effort="high") == plain
    assert prompt(chat_template_kwargs={"enable_thinking": False, "mood": "!"}) == plain + "<think>\n\n</think>\n\n!"
    with pytest.raises(InvalidRequest, match="'messages' is set by the server"):
        prompt(chat_template_kwargs={"messages": []})


def test_switches_that_a_base_lacks_are_refused(renderer: Renderer, renderers: dict[str, Renderer]) -> None:
    for one, fields, name in (
        (renderer, {"reasoning_effort": "low"}, "reasoning_effort"),
        (renderers["keyed"], {"reasoning_effort": "low"}, "reasoning_effort"),
        (renderer, {"chat_template_kwargs": {"a": 1}}, "chat_template_kwargs"),
    ):
        with pytest.raises(InvalidRequest, match="not supported by this server") as error:
            ask(one, "Hi.", **fields)
        assert (error.value.param, error.value.code) == (name, "unsupported_parameter")


@pytest.mark.parametrize("tools", [[], [TOOL]], ids=["no-tools", "tools"])
def test_a_base_that_thinks_and_knows_no_tools_keeps_thoughts_apart(
    base_dir: Path, tmp_path: Path, tools: list[dict[str, Any]]
) -> None:
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{{ m.content.split('</think>')[-1] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
    )
    renderer = load_renderer(make_base(base_dir, tmp_path / "thinks", template, plain=("<think>", "</think>")))
    assert "-v2-" in renderer.name
    pieces, _, _ = ask(renderer, "Hm.\n</think>\n\nFour.", **({"tools": tools} if tools else {}))
    assert "".join(piece.text for piece in pieces) == "Four."
    assert "".join(piece.reasoning for piece in pieces) == "Hm."


@pytest.mark.parametrize("name", ANSWERS)
def test_a_plain_completion_shows_all_of_the_text(renderers: dict[str, Renderer], name: str) -> None:
    choice = ChoiceText(renderers[name], (), with_tools=False)
    tokens = renderers[name]._vocabulary.after((0,), ANSWERS[name], "written")
    parts = [choice.add(Delta(0, token)) for token in tokens]
    parts.append(choice.add(Delta(0, min(renderers[name].eos_ids), finish="stop")))
    assert "".join(part.text for part in parts) == ANSWERS[name]
    assert "".join(part.reasoning for part in parts) == ""
