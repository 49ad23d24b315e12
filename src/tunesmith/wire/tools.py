"""Tools of a chat request, and the choice among them.

`tools`, `tool_choice`, and the older `functions` and `function_call`.
"""

from functools import partial
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from tunesmith.wire.body import OpenBody
from tunesmith.wire.faults import invalid_value, unsupported, worded
from tunesmith.wire.limits import MAX_TOOLS


def _function_only(kind: object) -> object:
    if kind != "function":
        raise worded(partial(unsupported, reason=f"only 'function' tools can be called, not {kind!r}."))
    return kind


def _not_empty(tools: "list[FunctionChoice]") -> "list[FunctionChoice]":
    if not tools:
        raise worded(
            lambda param: invalid_value(param, f"Invalid '{param}': an empty array allows no call; use 'none'.")
        )
    return tools


FunctionType: TypeAlias = Annotated[Literal["function"], BeforeValidator(_function_only)]


class Function(OpenBody):
    """A declared function. `parameters` is a JSON schema."""

    name: str
    description: str | None = None
    strict: bool | None = None
    parameters: dict[str, object] | None = None


class FunctionTool(OpenBody):
    """An element of `tools`."""

    type: FunctionType
    function: Function


class NamedFunction(OpenBody):
    """A function that must be called."""

    name: str


class FunctionChoice(OpenBody):
    """The choice of one function.

    Without `function`, the error says that it must be an object.
    """

    model_config = ConfigDict(json_schema_extra={"additionalProperties": True, "required": ["type", "function"]})

    type: FunctionType
    function: NamedFunction = Field(None, validate_default=True)


class AllowedTools(OpenBody):
    """Some of the declared tools, of which the model may or must call one."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[FunctionChoice], Field(max_length=MAX_TOOLS), AfterValidator(_not_empty)]


class AllowedToolsChoice(OpenBody):
    """The choice among some of the declared tools."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


def _tool_choice(value: object) -> object:
    if value in ("none", "auto", "required"):
        return value
    if not isinstance(value, dict):
        raise _unknown_choice(value, "'none', 'auto' and 'required'")
    match value.get("type"):
        case "function":
            return FunctionChoice.model_validate(value)
        case "allowed_tools":
            return AllowedToolsChoice.model_validate(value)
    reason = "it must be 'function' or 'allowed_tools'; only functions can be called."
    raise worded(lambda param: unsupported(f"{param}.type", reason))


def _function_call(value: object) -> object:
    if value in ("none", "auto"):
        return value
    if isinstance(value, dict):
        return NamedFunction.model_validate(value)
    raise _unknown_choice(value, "'none' and 'auto'")


def _unknown_choice(value: object, known: str) -> Exception:
    reason = f"{value!r}. Supported values are: {known}, or an object."
    return worded(lambda param: invalid_value(param, f"Invalid value for '{param}': {reason}"))


ToolChoice: TypeAlias = Annotated[
    Literal["none", "auto", "required"] | FunctionChoice | AllowedToolsChoice, BeforeValidator(_tool_choice)
]
FunctionCall: TypeAlias = Annotated[Literal["none", "auto"] | NamedFunction, BeforeValidator(_function_call)]
