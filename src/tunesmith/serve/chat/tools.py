"""The tools of a chat request: declared ones, and those that may be called."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject
from tunesmith.rows.messages import Tool
from tunesmith.serve.chat.schema import arguments_schema, schema_fault
from tunesmith.wire.chat.bodies import Chat
from tunesmith.wire.faults import invalid_value
from tunesmith.wire.tools import AllowedTools, AllowedToolsChoice, Function, FunctionChoice, NamedFunction


@dataclass(frozen=True, slots=True)
class ToolUse:
    """Tools in the prompt (`declared`) and those that may be called (`callable`).

    Both are () where calls are off.
    """

    declared: tuple[Tool, ...] = ()
    callable: tuple[Tool, ...] = ()
    required: bool = False  # the answer is a call and nothing else
    single: bool = False  # at most one call
    legacy: bool = False  # asked with `functions`, so answered with `function_call`
    limited: bool = False  # a call of anything but `callable` must not come


def tool_use(chat: Chat) -> ToolUse:
    """The tools of a request. Raises InvalidRequest for what cannot be called.

    That is a function that is not declared, or a strict one whose schema is not supported.
    """
    tools, legacy = _declared(chat), bool(chat.functions)
    single = legacy or not chat.parallel_tool_calls
    match chat.function_call if chat.tool_choice is None else chat.tool_choice:
        case None | "auto":
            return ToolUse(tools, tools, False, single, legacy)
        case "none":
            return ToolUse(legacy=legacy)
        case "required":
            return ToolUse(tools, tools, True, single, legacy)
        case AllowedToolsChoice(allowed_tools=allowed):
            return _allowed(allowed, tools, single, legacy)
        case FunctionChoice(function=function):
            return ToolUse(tools, (_find(function, tools, "tool_choice"),), True, True, legacy)
        case function:
            return ToolUse(tools, (_find(function, tools, "function_call"),), True, True, legacy)


def _allowed(allowed: AllowedTools, tools: tuple[Tool, ...], single: bool, legacy: bool) -> ToolUse:
    """Only the allowed tools are declared."""
    path = "tool_choice.allowed_tools.tools"
    kept = tuple(_find(one.function, tools, f"{path}[{index}]") for index, one in enumerate(allowed.tools))
    return ToolUse(kept, kept, allowed.mode == "required", single, legacy, limited=True)


def _find(function: NamedFunction, tools: tuple[Tool, ...], path: str) -> Tool:
    for tool in tools:
        if tool.name == function.name:
            return tool
    known = ", ".join(repr(tool.name) for tool in tools)
    raise invalid_value(
        path.partition(".")[0],
        f"Invalid value for '{path}': the function {function.name!r} is not declared; there are {known}.",
    )


def _declared(chat: Chat) -> tuple[Tool, ...]:
    if chat.functions:
        return _tools(chat.functions, "functions[{}]")
    return _tools([tool.function for tool in chat.tools], "tools[{}].function")


def _tools(functions: Sequence[Function], path: str) -> tuple[Tool, ...]:
    return tuple(_tool(function, path.format(index)) for index, function in enumerate(functions))


def _tool(function: Function, path: str) -> Tool:
    schema = cast(JsonObject | None, function.parameters)
    if function.strict and (fault := _arguments_fault(schema)):
        message = f"Invalid schema for function '{function.name}': {fault}."
        raise InvalidRequest(message, param=f"{path}.parameters", code="invalid_function_parameters")
    return Tool(function.name, function.description, schema, function.strict)


def _arguments_fault(parameters: JsonObject | None) -> str | None:
    schema = arguments_schema(parameters)
    kind = schema.get("type", "object")
    return schema_fault(schema) if kind == "object" else f"its type is {kind!r}; arguments are an 'object'"
