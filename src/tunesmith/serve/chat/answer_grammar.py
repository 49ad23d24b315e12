"""The grammar of an answer, in llguidance's Lark syntax.

An answer is a JSON value, calls, or text followed by calls.

Calls are spelled as they are in training, so a tuned model is never led off the tokens that it has learned.
"""

import json
from collections.abc import Sequence

from tunesmith.jsonvalue import JsonObject
from tunesmith.render.tool_text import OUR_WORDS, CallWords
from tunesmith.rows.messages import Tool
from tunesmith.serve.chat.schema import ANY_OBJECT, arguments_schema, json_rule, schema_fault
from tunesmith.serve.chat.tools import ToolUse


def answer_grammar(response_schema: JsonObject | None, tools: ToolUse, words: CallWords = OUR_WORDS) -> str | None:
    """The grammar that the answer must follow; None where it is free."""
    held = tools.required or tools.limited or any(tool.strict for tool in tools.callable)
    if response_schema is None and not held:
        return None
    start: list[str] = []
    rules: list[str] = []
    if tools.callable:
        rules = _calls(tools, words)
        if tools.required or response_schema is not None or not words.mark:
            start.append(" ".join([*map(_literal, filter(None, [words.before + words.mark])), "calls"]))
        if not tools.required and response_schema is None:
            start += ["TEXT", "marked calls"] if words.mark else ["TEXT"]
            rules += [f"marked[lazy]: TEXT {_literal(words.mark)}"] if words.mark else []
            rules.append(r"TEXT: /(.|\n)*/")
    if response_schema is not None and not tools.required:
        start.append(" ".join([*map(_literal, filter(None, [words.opening])), "answer"]))
        rules.append(f"answer: {json_rule(response_schema)}")
    return "\n".join([f"start: {' | '.join(start)}", *rules]) + "\n"


def _calls(tools: ToolUse, words: CallWords) -> list[str]:
    """All calls from behind the first one's mark to the end, and each of them from its name on."""
    more = "" if tools.single or words.between is None else f" ({_literal(words.between)} body)*"
    end = f" {_literal(words.end)}" if words.end else ""
    lead = f"{_literal(words.lead)} " if words.lead else ""
    return [f"calls: {lead}body{more}{end}", *_bodies(tools.callable, words)]


def _bodies(tools: Sequence[Tool], words: CallWords) -> list[str]:
    numbered = list(enumerate(tools))
    calls = [f"{_literal(_name(tool) + words.middle)} arguments_{n}" for n, tool in numbered]
    arguments = [f"arguments_{n}: {json_rule(_parameters(tool))}" for n, tool in numbered]
    return [f"body: {' | '.join(calls)}", *arguments]


def _name(tool: Tool) -> str:
    """As it is written between quotes."""
    return json.dumps(tool.name, ensure_ascii=False)[1:-1]


def _parameters(tool: Tool) -> JsonObject:
    """Parameters that are not strict are held to as far as they can be: else the arguments are any object."""
    schema = arguments_schema(tool.parameters)
    return schema if tool.strict or (_is_object(schema) and schema_fault(schema) is None) else ANY_OBJECT


def _is_object(schema: JsonObject) -> bool:
    return schema.get("type", "object") == "object"


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
