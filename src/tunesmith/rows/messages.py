"""The parts of a chat, as values.

Nothing is checked here: `rows.row` makes them from JSON and names the faults.
"""

from dataclasses import dataclass

from tunesmith.jsonvalue import JsonObject


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """A call; `arguments` is the JSON text the model wrote, which need not parse."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the assistant makes; `arguments` is JSON text and need not parse."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Tool:
    """A declared function. `parameters` is a JSON schema."""

    name: str
    description: str | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    `weight` 0 keeps an assistant turn out of the loss; None is OpenAI's default, 1. `reasoning_content` is what an
    assistant thought before it wrote the content, as servers of reasoning models give it back.
    """

    role: str
    content: str | None
    name: str | None = None
    weight: int | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    function_call: FunctionCall | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
