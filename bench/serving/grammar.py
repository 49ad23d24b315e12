"""Measures what following a grammar costs.

    python bench/serving/grammar.py

Feeds the tokens of known answers through the matcher and the sampler, over the vocabulary of the demo's base, without a
model. Microseconds per token for computing the mask, applying it to the logits, and advancing.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy
import torch

from tunesmith.jsonvalue import JsonObject
from tunesmith.models.directory import pull
from tunesmith.models.registry import resolve_base
from tunesmith.render.renderer import Renderer, load_renderer
from tunesmith.rows.messages import Tool
from tunesmith.serve.chat.answer_grammar import answer_grammar
from tunesmith.serve.chat.schema import ANY_OBJECT
from tunesmith.serve.chat.tools import ToolUse
from tunesmith.serve.engine.grammar import Grammars
from tunesmith.serve.engine.sampling import mask_logits
from tunesmith.settings import Settings

Result = TypeVar("Result")
PERSON: JsonObject = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0},
        "friends": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["name", "age", "friends"],
    "additionalProperties": False,
}
ADA = json.dumps({"name": "Ada, Countess of Lovelace", "age": 36, "friends": ["Charles", "Mary", "武汉的朋友"] * 4})
TEXT = "Let me look that up for you; it will take a moment. " * 4
CALL = f'<tool_call>\n{{"name": "look_up", "arguments": {ADA}}}\n</tool_call>'
STRICT = Tool("look_up", None, PERSON, strict=True)
CASES: dict[str, tuple[JsonObject | None, ToolUse, str]] = {
    "json_object": (ANY_OBJECT, ToolUse(), ADA),
    "json_schema": (PERSON, ToolUse(), ADA),
    "forced call": (None, ToolUse((STRICT,), (STRICT,), required=True), CALL),
    "strict tool, text then call": (None, ToolUse((STRICT,), (STRICT,)), f"{TEXT}\n{CALL}"),
}


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    settings = Settings()
    renderer = load_renderer(pull(resolve_base("smollm2-135m-instruct", settings), settings))
    torch.set_num_threads(1)
    grammars = Grammars(renderer)
    print("| answer | tokens | compile, ms | mask | apply | move on | sum |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    grammars.compile('start: "x"')  # makes the tables of the vocabulary
    for name, (schema, tools, answer) in CASES.items():
        print(_row(name, answer_grammar(schema, tools) or "", answer, grammars, renderer))


def _row(name: str, text: str, answer: str, grammars: Grammars, renderer: Renderer) -> str:
    started = time.perf_counter()
    matcher = grammars.compile(text).start()
    compiled_ms = (time.perf_counter() - started) * 1e3
    ids, logits_V = (
        renderer.encode(answer),
        numpy.random.default_rng(0).standard_normal(renderer.vocab_size, numpy.float32),
    )
    columns: list[list[float]] = [[], [], []]
    for token in ids:
        bits, mask_us = _timed(matcher.allowed)
        _, apply_us = _timed(partial(mask_logits, bits, logits_V))
        _, move_us = _timed(partial(matcher.advance, token))
        for column, value in zip(columns, (mask_us, apply_us, move_us), strict=True):
            column.append(value)
    columns.append([sum(values) for values in zip(*columns, strict=True)])
    cells = " | ".join(f"{statistics.median(column):.0f} ({max(column):.0f})" for column in columns)
    return f"| {name} | {len(ids)} | {compiled_ms:.1f} | {cells} |"


def _timed(work: Callable[[], Result]) -> tuple[Result, float]:
    started = time.perf_counter()
    result = work()
    return result, (time.perf_counter() - started) * 1e6


if __name__ == "__main__":
    main()
