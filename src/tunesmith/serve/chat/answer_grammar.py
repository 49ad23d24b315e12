"""The grammar of an answer, in llguidance's Lark syntax.

An answer is a JSON value, calls, or text followed by calls.

Calls are spelled as `render.tool_text` spells them in training, so a tuned model is never led off the tokens that it
has learned.
"""

import json
from collections.abc import Sequence

from tunesmith.jsonvalue import JsonObject
from tunesmith.render.tool_text import BETWEEN_CALLS, CALL_END, CALL_START, call_opening
from tunesmith.rows.messages import Tool
from tunesmith.serve.chat.schema import ANY_OBJECT, arguments_schema, json_rule, schema_fault
from tunesmith.serve.chat.tools import ToolUse


def answer_grammar(response_schema: JsonObject | None, tools: ToolUse) -> str | None:
    """The grammar that the answer must follow; None where it is free."""
    held = tools.required or tools.limited or any(tool.strict for tool in tools.callable)
    if response_schema is None and not held:
        return None
    start: list[str] = []
    rules: list[str] = []
    if tools.callable:
        more = "" if tools.single else f" ({_literal(BETWEEN_CALLS)} call)*"
        rules = [f"call: {_literal(CALL_START)} body", *_bodies(tools.callable)]
        if tools.required or response_schema is not None:
            start.append(f"call{more}")
        else:
            start += ["TEXT", f"marked body{more}"]
            rules += [f"marked[lazy]: TEXT {_literal(CALL_START)}", r"TEXT: /(.|\n)*/"]
    if response_schema is not None and not tools.required:
        start.append("answer")
        rules.append(f"answer: {json_rule(response_schema)}")
    return "\n".join([f"start: {' | '.join(start)}", *rules]) + "\n"


def _bodies(tools: Sequence[Tool]) -> list[str]:
    """A call from behind its mark to its end, for each tool."""
    numbered = list(enumerate(tools))
    calls = [f"{_literal(call_opening(tool.name))} arguments_{n} {_literal(CALL_END)}" for n, tool in numbered]
    arguments = [f"arguments_{n}: {json_rule(_parameters(tool))}" for n, tool in numbered]
    return [f"body: {' | '.join(calls)}", *arguments]


def _parameters(tool: Tool) -> JsonObject:
    """Parameters that are not strict are held to as far as they can be: else the arguments are any object."""
    schema = arguments_schema(tool.parameters)
    return schema if tool.strict or (_is_object(schema) and schema_fault(schema) is None) else ANY_OBJECT


def _is_object(schema: JsonObject) -> bool:
    return schema.get("type", "object") == "object"


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
