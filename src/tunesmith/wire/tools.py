"""Tools of a chat: declared and chosen in a request, called in an answer.

`tools`, `tool_choice`, `tool_calls`, and the older `functions` and `function_call`.
"""

from functools import partial
from typing import Annotated, Literal, NotRequired, TypeAlias

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from typing_extensions import TypedDict

from tunesmith.wire.body import FIRST_FAULT, OpenBody
from tunesmith.wire.faults import invalid_value, shown, unsupported, worded
from tunesmith.wire.limits import MAX_TOOLS


def _function_only(kind: object) -> object:
    if kind != "function":
        raise worded(partial(unsupported, reason=f"only 'function' tools can be called, not {shown(kind)}."))
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

    name: str = Field(description="What a call names.")
    description: str | None = Field(None, description="Shown to the model.")
    strict: bool | None = Field(None, description="true: arguments follow the parameters, also under auto.")
    parameters: dict[str, object] | None = Field(
        None, description="A JSON schema, shown to the model; unset: any object."
    )


class FunctionTool(OpenBody):
    """An element of `tools`."""

    type: FunctionType = Field(description="function.")
    function: Function = Field(description="The declared function.")


class NamedFunction(OpenBody):
    """A function that must be called."""

    name: str = Field(description="A declared function.")


class FunctionChoice(OpenBody):
    """The choice of one function.

    Without `function`, the error says that it must be an object.
    """

    model_config = ConfigDict(json_schema_extra={"additionalProperties": True, "required": ["type", "function"]})

    type: FunctionType = Field(description="function: one of them.")
    function: NamedFunction = Field(None, validate_default=True, description="Only with the type function.")


class AllowedTools(OpenBody):
    """Some of the declared tools, of which the model may or must call one."""

    mode: Literal["auto", "required"] = Field(description="auto: the model may call one of them; required: it must.")
    tools: Annotated[list[FunctionChoice], Field(max_length=MAX_TOOLS), FIRST_FAULT, AfterValidator(_not_empty)] = (
        Field(description="Declared functions, 1 to 128.")
    )


class AllowedToolsChoice(OpenBody):
    """The choice among some of the declared tools."""

    type: Literal["allowed_tools"] = Field(description="allowed_tools: some of them.")
    allowed_tools: AllowedTools = Field(
        description="Only with this type; the others are not declared and cannot be called."
    )


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
    reason = f"{shown(value)}. Supported values are: {known}, or an object."
    return worded(lambda param: invalid_value(param, f"Invalid value for '{param}': {reason}"))


ToolChoice: TypeAlias = Annotated[
    Literal["none", "auto", "required"] | FunctionChoice | AllowedToolsChoice, BeforeValidator(_tool_choice)
]
FunctionCall: TypeAlias = Annotated[Literal["none", "auto"] | NamedFunction, BeforeValidator(_function_call)]


class CalledFunction(TypedDict):
    """A call as the model wrote it; `arguments` is JSON as text."""

    name: str
    arguments: str


class ToolCall(TypedDict):
    """A whole call of a tool."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class Called(TypedDict):
    """What a message has of calls: at most one of the two."""

    tool_calls: NotRequired[list[ToolCall]]
    function_call: NotRequired[CalledFunction]


class FunctionDelta(TypedDict):
    """More of a call: its name comes first, then its arguments in pieces."""

    name: NotRequired[str | None]
    arguments: str


class ToolCallDelta(TypedDict):
    """More of call number `index`."""

    index: int
    id: NotRequired[str | None]
    type: NotRequired[Literal["function"]]
    function: FunctionDelta
