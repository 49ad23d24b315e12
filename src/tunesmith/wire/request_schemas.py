"""The bodies that routes read by themselves, as types for the OpenAPI document. The others are pydantic models.

Those routes explain a wrong field in OpenAI's own words, or take a body in pieces; what they refuse is theirs to say.
"""

from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from tunesmith.wire.answers import Anything

FileForm = TypedDict(
    "FileForm",
    {
        "purpose": Literal["fine-tune", "assistants", "batch", "user_data", "vision", "evals"],
        "file": Annotated[str, Field(json_schema_extra={"format": "binary"})],
        "expires_after[anchor]": NotRequired[Literal["created_at"]],
        "expires_after[seconds]": NotRequired[Annotated[int, Field(ge=3600, le=2_592_000)]],
    },
)


class PartForm(TypedDict):
    data: Annotated[str, Field(json_schema_extra={"format": "binary"})]


class Sampling(TypedDict):
    model: str
    n: NotRequired[Annotated[int, Field(ge=1, le=128)] | None]
    max_tokens: NotRequired[Annotated[int, Field(ge=1)] | None]
    temperature: NotRequired[Annotated[float, Field(ge=0, le=2)] | None]
    top_p: NotRequired[Annotated[float, Field(ge=0, le=1)] | None]
    seed: NotRequired[Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None]
    stop: NotRequired[str | Annotated[list[str], Field(max_length=4)] | None]
    presence_penalty: NotRequired[Annotated[float, Field(ge=-2, le=2)] | None]
    frequency_penalty: NotRequired[Annotated[float, Field(ge=-2, le=2)] | None]
    logit_bias: NotRequired[dict[str, float] | None]
    stream: NotRequired[bool | None]
    stream_options: NotRequired[Anything | None]
    user: NotRequired[str | None]


class AskedMessage(TypedDict):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: NotRequired[str | list[Anything] | None]
    name: NotRequired[str]
    tool_calls: NotRequired[list[Anything]]
    tool_call_id: NotRequired[str]
    function_call: NotRequired[Anything]


class Chat(Sampling):
    """Every field's fate is in docs/serving.md."""

    messages: Annotated[list[AskedMessage], Field(min_length=1)]
    max_completion_tokens: NotRequired[Annotated[int, Field(ge=1)] | None]
    logprobs: NotRequired[bool | None]
    top_logprobs: NotRequired[Annotated[int, Field(ge=0, le=20)] | None]
    tools: NotRequired[list[Anything] | None]
    tool_choice: NotRequired[str | Anything | None]
    parallel_tool_calls: NotRequired[bool | None]
    functions: NotRequired[list[Anything] | None]
    function_call: NotRequired[str | Anything | None]
    response_format: NotRequired[Anything | None]
    store: NotRequired[bool | None]
    metadata: NotRequired[dict[str, str] | None]


class Text(Sampling):
    prompt: str | list[str] | list[int] | list[list[int]]
    best_of: NotRequired[Annotated[int, Field(ge=0, le=20)] | None]
    echo: NotRequired[bool | None]
    logprobs: NotRequired[Annotated[int, Field(ge=0, le=5)] | None]
    suffix: NotRequired[str | None]


class Judge(TypedDict):
    input: str | list[str] | list[Anything]
    model: NotRequired[str | None]


class ValidateGrader(TypedDict):
    grader: Anything


class RunGrader(TypedDict):
    grader: Anything
    model_sample: str
    item: NotRequired[Anything | None]
