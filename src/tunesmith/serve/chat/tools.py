"""Tools of a chat request, and which of them it may, must or must not call: `tools`, `functions`, `tool_choice`,
`function_call`, `parallel_tool_calls`."""

from dataclasses import dataclass

from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.rows.messages import Tool
from tunesmith.serve.chat.schema import arguments_schema, schema_fault
from tunesmith.wire.fields import (
    Fields,
    as_array,
    as_object,
    as_text,
    invalid_value,
    missing,
    too_long,
    unsupported,
    wrong_type,
)

MAX_TOOLS = 128


@dataclass(frozen=True, slots=True)
class ToolUse:
    """`declared` tools stand in the prompt, `callable` ones may be called; both are () where calls are off."""

    declared: tuple[Tool, ...] = ()
    callable: tuple[Tool, ...] = ()
    required: bool = False  # the answer is a call and nothing else
    single: bool = False  # at most one call
    legacy: bool = False  # asked with `functions`, so answered with `function_call`
    limited: bool = False  # a call of anything but `callable` must not come


def read_tools(fields: Fields) -> ToolUse:
    """Raises InvalidRequest with the field's name in `param`."""
    tools, legacy = _tools(fields)
    parallel = fields.boolean("parallel_tool_calls", True)
    newer, older = fields.raw("tool_choice"), fields.raw("function_call")
    name, choice = ("function_call", older) if newer is None else ("tool_choice", newer)
    if not tools and choice not in (None, "auto", "none"):
        raise invalid_value(name, f"Invalid value for '{name}': '{name}' is only allowed when 'tools' are specified.")
    single = legacy or not parallel
    match choice:
        case None | "auto":
            return ToolUse(tools, tools, False, single, legacy)
        case "none":
            return ToolUse(legacy=legacy)
        case "required" if name == "tool_choice":
            return ToolUse(tools, tools, True, single, legacy)
        case dict():
            return _chosen(name, choice, tools, single, legacy)
    known = "'none' and 'auto'" if name == "function_call" else "'none', 'auto' and 'required'"
    raise invalid_value(name, f"Invalid value for '{name}': {choice!r}. Supported values are: {known}, or an object.")


def _chosen(name: str, choice: JsonObject, tools: tuple[Tool, ...], single: bool, legacy: bool) -> ToolUse:
    """A function named, or a list of those allowed. Only allowed ones are declared; a named one is called once."""
    if name == "function_call":
        return ToolUse(tools, (_find(choice.get("name"), tools, "function_call", "name"),), True, True, legacy)
    match choice.get("type"):
        case "function":
            return ToolUse(tools, (_named(choice, tools, "tool_choice"),), True, True, legacy)
        case "allowed_tools":
            allowed = as_object(choice.get("allowed_tools"), "tool_choice.allowed_tools")
            items = as_array(allowed.get("tools"), "tool_choice.allowed_tools.tools")
            paths = (f"tool_choice.allowed_tools.tools[{index}]" for index in range(len(items)))
            kept = tuple(_named(as_object(item, path), tools, path) for item, path in zip(items, paths, strict=True))
            if not kept:
                message = "Invalid 'tool_choice.allowed_tools.tools': an empty array allows no call; use 'none'."
                raise invalid_value("tool_choice.allowed_tools.tools", message)
            return ToolUse(kept, kept, _mode(allowed.get("mode")) == "required", single, legacy, limited=True)
    raise unsupported("tool_choice.type", "it must be 'function' or 'allowed_tools'; only functions can be called.")


def _mode(value: JsonValue) -> str:
    path = "tool_choice.allowed_tools.mode"
    if value is None:
        raise missing(path)
    if value not in ("auto", "required"):
        raise invalid_value(path, f"Invalid value: {value!r}. Supported values are: 'auto' and 'required'.")
    return str(value)


def _named(item: JsonObject, tools: tuple[Tool, ...], path: str) -> Tool:
    if item.get("type") != "function":
        raise unsupported(f"{path}.type", f"only 'function' tools can be called, not {item.get('type')!r}.")
    function = as_object(item.get("function"), f"{path}.function")
    return _find(function.get("name"), tools, path, "function.name")


def _find(value: JsonValue, tools: tuple[Tool, ...], path: str, key: str) -> Tool:
    if value is None:
        raise missing(f"{path}.{key}")
    name = as_text(value, f"{path}.{key}")
    for tool in tools:
        if tool.name == name:
            return tool
    known = ", ".join(repr(tool.name) for tool in tools)
    raise invalid_value(
        path.partition(".")[0], f"Invalid value for '{path}': the function {name!r} is not declared; there are {known}."
    )


def _tools(fields: Fields) -> tuple[tuple[Tool, ...], bool]:
    tools, functions = fields.array("tools"), fields.array("functions")
    if tools and functions:
        raise invalid_value("functions", "'functions' is the old name of 'tools': send one of the two.")
    name, items = ("functions", functions) if functions else ("tools", tools or [])
    if len(items) > MAX_TOOLS:
        raise too_long(name, MAX_TOOLS, len(items))
    if functions:
        return tuple(_function(item, f"functions[{index}]") for index, item in enumerate(items)), True
    return tuple(_tool(item, f"tools[{index}]") for index, item in enumerate(items)), False


def _tool(value: JsonValue, path: str) -> Tool:
    tool = as_object(value, path)
    if tool.get("type") != "function":
        raise unsupported(f"{path}.type", f"only 'function' tools can be called, not {tool.get('type')!r}.")
    if "function" not in tool:
        raise missing(f"{path}.function")
    return _function(tool["function"], f"{path}.function")


def _function(value: JsonValue, path: str) -> Tool:
    function = as_object(value, path)
    if function.get("name") is None:
        raise missing(f"{path}.name")
    name = as_text(function["name"], f"{path}.name")
    description, parameters, strict = function.get("description"), function.get("parameters"), function.get("strict")
    if strict is not None and not isinstance(strict, bool):
        raise wrong_type(f"{path}.strict", "a boolean", strict)
    schema = None if parameters is None else as_object(parameters, f"{path}.parameters")
    if strict and (fault := _arguments_fault(schema)):
        message = f"Invalid schema for function '{name}': {fault}."
        raise InvalidRequest(message, param=f"{path}.parameters", code="invalid_function_parameters")
    return Tool(name, None if description is None else as_text(description, f"{path}.description"), schema, strict)


def _arguments_fault(parameters: JsonObject | None) -> str | None:
    schema = arguments_schema(parameters)
    kind = schema.get("type", "object")
    return schema_fault(schema) if kind == "object" else f"its type is {kind!r}; arguments are an 'object'"
