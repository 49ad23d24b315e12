"""Answers held to a grammar: random logits through the sampler, over the real base's vocabulary."""

import json
import math
from typing import Any

import jsonschema_rs
import numpy
import pytest
import torch

from tunesmith.errors import InvalidRequest, ServerFault
from tunesmith.jsonvalue import JsonObject
from tunesmith.render.renderer import Renderer
from tunesmith.render.tool_call_reader import parse_reply
from tunesmith.rows.messages import Tool
from tunesmith.serve.chat.answer_grammar import answer_grammar
from tunesmith.serve.chat.tools import ToolUse
from tunesmith.serve.engine.grammar import Grammars
from tunesmith.serve.engine.protocol import GenerateRequest, Grammar
from tunesmith.serve.engine.sampling import Sampler

CITY: JsonObject = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
STRICT = Tool("get_weather", None, {**CITY, "additionalProperties": False}, strict=True)
LOOSE = Tool("get_time", None, {"type": "object", "properties": {"zone": {"not": {"multipleOf": 2}}}})
NODE = {
    "type": "object",
    "properties": {"value": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
    "required": ["value", "next"],
    "additionalProperties": False,
}
SCHEMAS: dict[str, Any] = {
    "strings": {"type": "object", "properties": {"a": {"type": "string", "maxLength": 9}}, "required": ["a"]},
    "numbers": {"type": "array", "items": {"type": "number", "minimum": -1.5, "exclusiveMaximum": 20}, "minItems": 2},
    "integers": {"type": "integer", "multipleOf": 5, "minimum": 10, "maximum": 9000},
    "enum": {"enum": ["one", 2, None, {"three": [True]}, "冬天"]},
    "const": {"const": 'a "quoted"\nline'},
    "pattern": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{1,4}$"},
    "format": {"type": "string", "format": "date-time"},
    "tuple": {"type": "array", "prefixItems": [{"type": "boolean"}, {"type": "null"}], "items": False, "minItems": 2},
    "recursive": {"$defs": {"node": NODE}, "$ref": "#/$defs/node"},
    "any of": {"type": "object", "anyOf": [CITY, {"properties": {"n": {"type": "integer"}}, "required": ["n"]}]},
    "one of": {
        "oneOf": [
            {"type": "object", "properties": {"kind": {"const": kind}}, "required": ["kind"]} for kind in ("cat", "dog")
        ]
    },
    "all of": {"allOf": [CITY, {"properties": {"city": {"enum": ["Wuhan", "Oslo"]}}}]},
    "map": {"type": "object", "patternProperties": {"^n_": {"type": "integer"}}, "additionalProperties": False},
    "at least one": {
        "type": "object",
        "properties": {"a": {"type": "null"}, "b": {}},
        "minProperties": 1,
        "additionalProperties": False,
    },
    "draft 7": {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "definitions": {"n": {"type": "integer"}},
        "type": "array",
        "items": [{"$ref": "#/definitions/n"}],
        "additionalItems": False,
    },
    "any object": {"type": "object"},
}


@pytest.fixture(scope="module")
def grammars(renderer: Renderer) -> Grammars:
    return Grammars(renderer)


def sampler(renderer: Renderer, grammar: Grammar, seed: int, **values: Any) -> Sampler:
    return Sampler(GenerateRequest((1,), 300, renderer.eos_ids, seed=seed, grammar=grammar, **values), 0)


def babble(renderer: Renderer, grammar: Grammar, seed: int, limit: int = 300) -> str | None:
    """What random logits write, a little drawn to what closes values; None when they come to no end."""
    drawn = sampler(renderer, grammar, seed, temperature=1.3, top_p=0.95)
    generator = torch.Generator().manual_seed(seed)
    closing = [renderer.encode(text)[0] for text in ('"', "}", "]", '"}', "},", "1", "</")] + list(renderer.eos_ids)
    tokens: list[int] = []
    while len(tokens) < limit:
        logits_V = torch.randn(renderer.vocab_size + 64, generator=generator).numpy()  # padded, as many bases' are
        logits_V[closing] += 9.0
        token, _, _ = drawn.next(logits_V)
        if token in renderer.eos_ids:
            return renderer.decode(tokens)
        tokens.append(token)
    return None


@pytest.mark.parametrize("name", SCHEMAS)
def test_random_logits_write_json_of_the_schema(name: str, grammars: Grammars, renderer: Renderer) -> None:
    schema = SCHEMAS[name]
    grammar = grammars.compile(answer_grammar(schema, ToolUse()) or "")
    written = [text for seed in range(4) if (text := babble(renderer, grammar, seed)) is not None]
    assert len(written) >= 2, "most come to an end"
    check = jsonschema_rs.validator_for(schema, validate_formats=True)
    for text in written:
        check.validate(json.loads(text))


def test_a_listed_name_cannot_be_spelled_past_its_schema(grammars: Grammars, renderer: Renderer) -> None:
    schema: Any = {"type": "object", "properties": {"a": {"type": "integer"}}}
    grammar = grammars.compile(answer_grammar(schema, ToolUse()) or "")
    assert spells(grammar, renderer, '{"a": 1, "b": "x"}')
    assert not spells(grammar, renderer, '{"\\u0061": "x"}')


def test_json_in_ascii_is_json_too(grammars: Grammars, renderer: Renderer) -> None:
    schemas: list[JsonObject] = [{**CITY, "additionalProperties": False}, {"type": "object"}]
    for schema in schemas:
        grammar = grammars.compile(answer_grammar(schema, ToolUse()) or "")
        assert spells(grammar, renderer, json.dumps({"city": "武汉 🥶 \x01"}))
        assert not spells(grammar, renderer, '{"city": "\\ud83e"}'), "half a character"


@pytest.mark.parametrize("seed", range(5))
def test_random_logits_write_the_calls_that_are_required(seed: int, grammars: Grammars, renderer: Renderer) -> None:
    tools = ToolUse((STRICT, LOOSE), (STRICT, LOOSE), required=True, single=seed % 2 == 0)
    text = babble(renderer, grammars.compile(answer_grammar(None, tools) or ""), seed)
    assert text is not None
    reply = parse_reply(text)
    assert reply.content is None
    assert len(reply.calls) == 1 if tools.single else reply.calls
    for call in reply.calls:
        arguments = json.loads(call.arguments)
        assert isinstance(arguments, dict)
        assert call.name in ("get_weather", "get_time")
        assert call.name == "get_time" or list(arguments) == ["city"]


def spells(grammar: Grammar, renderer: Renderer, text: str) -> bool:
    """Whether the grammar allows `text`, in the tokens in which it is learned, and then the end."""
    matcher = grammar.start()
    for token in [*renderer.encode(text), min(renderer.eos_ids)]:
        allowed = matcher.allowed()
        if not allowed[token // 8] >> token % 8 & 1:
            return False
        matcher.advance(token)
    return True


CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "武汉 </tool_call>"}}\n</tool_call>'
BROKEN = '<tool_call>\n{"name": "get_weather", "arguments": {"town": 3}}\n</tool_call>'
OTHER = '<tool_call>\n{"name": "get_time", "arguments": {"zone": [1.5e3, null]}}\n</tool_call>'


def test_strict_arguments_are_held_to_after_free_text(grammars: Grammars, renderer: Renderer) -> None:
    grammar = grammars.compile(answer_grammar(None, ToolUse((STRICT, LOOSE), (STRICT, LOOSE))) or "")
    for text in ("", "Hi, 武汉 🥶 \n", "a <tool_box> b", CALL, f"Let me look.\n{CALL}\n{OTHER}", f"x{OTHER}"):
        assert spells(grammar, renderer, text), text
    for text in (BROKEN, f"Let me look.\n{BROKEN}", f"{CALL} and more", CALL.replace("get_weather", "get_money")):
        assert not spells(grammar, renderer, text), text


def test_calls_or_json_where_both_are_asked_for(grammars: Grammars, renderer: Renderer) -> None:
    grammar = grammars.compile(answer_grammar({"type": "object"}, ToolUse((STRICT,), (STRICT,), single=True)) or "")
    assert all(spells(grammar, renderer, text) for text in (CALL, '{"a": 1}', '{\n  "a": 1\n}'))
    assert not any(spells(grammar, renderer, text) for text in ("Hi", f"{CALL}\n{CALL}", BROKEN, "", '{"a":   1}'))


def test_names_and_schemas_cannot_break_out_of_the_grammar(grammars: Grammars, renderer: Renderer) -> None:
    name = 'a" | TEXT //\\ %json {'
    tool = Tool(name, None, {"type": "object", "properties": {'"}\nstart: TEXT': {"const": "}\n%ignore /x/"}}}, True)
    grammar = grammars.compile(answer_grammar(None, ToolUse((tool,), (tool,), required=True)) or "")
    call = f'<tool_call>\n{{"name": {json.dumps(name)}, "arguments": {{}}}}\n</tool_call>'
    assert spells(grammar, renderer, call)
    assert not spells(grammar, renderer, "Hi")


def test_nothing_is_held_to_where_nothing_is_asked_for() -> None:
    assert answer_grammar(None, ToolUse()) is None
    assert answer_grammar(None, ToolUse((LOOSE,), (LOOSE,))) is None


def test_neither_bias_nor_temperature_brings_a_forbidden_token_back(grammars: Grammars, renderer: Renderer) -> None:
    grammar = grammars.compile('start: "yes" | "no"')
    hello = renderer.encode("Hello")[0]
    drawn = sampler(renderer, grammar, 1, temperature=0.0, logit_bias=((hello, 100.0),), top_logprobs=1)
    logits_V = numpy.zeros(renderer.vocab_size, numpy.float32)
    logits_V[hello] = 20.0
    token, logprob, top = drawn.next(logits_V)
    assert renderer.decode([token]) in ("y", "yes", "n", "no")
    assert top[0][0] == hello, "log-probabilities stay the model's own"
    assert logprob == pytest.approx(-math.log(math.exp(20) + renderer.vocab_size - 1))


def test_after_its_end_a_grammar_allows_only_the_end(grammars: Grammars, renderer: Renderer) -> None:
    drawn = sampler(renderer, grammars.compile('start: "yes"'), 1)
    matcher = grammars.compile('start: "yes"').start()
    text: list[int] = []
    while not matcher.finished:
        text.append(drawn.next(numpy.zeros(renderer.vocab_size, numpy.float32))[0])
        matcher.advance(text[-1])
    assert renderer.decode(text) == "yes"
    assert all(drawn.next(torch.randn(renderer.vocab_size).numpy())[0] in renderer.eos_ids for _ in range(3))


def test_a_grammar_is_compiled_once_and_its_copies_are_independent(grammars: Grammars, renderer: Renderer) -> None:
    grammar = grammars.compile('start: "ab"')
    assert grammars.compile('start: "ab"') is grammar
    first, second = grammar.start(), grammar.start()
    first.advance(renderer.encode("ab")[0])
    assert (first.finished, second.finished) == (True, False)


def test_a_token_that_was_not_allowed_is_a_fault(grammars: Grammars, renderer: Renderer) -> None:
    matcher = grammars.compile('start: "yes"').start()
    with pytest.raises(ServerFault, match="could not be held to its grammar"):
        matcher.advance(renderer.encode("no")[0])


def test_a_grammar_that_cannot_be_is_refused(grammars: Grammars) -> None:
    with pytest.raises(InvalidRequest, match="cannot be turned into a grammar"):
        grammars.compile("start: missing")
