"""Answers of `/v1/chat/completions`: completions, streams and what is stored."""

from typing import Literal, NotRequired, TypeAlias

from typing_extensions import TypedDict

from tunesmith.wire.lists import Anything
from tunesmith.wire.tools import (
    CalledFunction,
    FunctionDelta,
    ToolCall,
    ToolCallDelta,
)


class TokenUsage(TypedDict):
    """Tokens that a request took."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: dict[str, int]
    completion_tokens_details: dict[str, int]


class Reasoned(TypedDict, total=False):
    """What a model thought before its answer, as servers of reasoning models give it."""

    reasoning_content: str


class Message(TypedDict):
    """A whole answer."""

    role: Literal["assistant"]
    content: str | None
    reasoning_content: NotRequired[str]
    tool_calls: NotRequired[list[ToolCall]]
    function_call: NotRequired[CalledFunction]
    refusal: None
    annotations: list[Anything]


class TokenLogprob(TypedDict):
    """A token and the natural logarithm of its probability."""

    token: str
    logprob: float | None
    bytes: list[int]


class ChosenLogprob(TokenLogprob):
    """A token of the answer, beside the likeliest ones at its place."""

    top_logprobs: list[TokenLogprob]


class Logprobs(TypedDict):
    """Log-probabilities of an answer's tokens."""

    content: list[ChosenLogprob]
    refusal: None


FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "function_call"]


class Choice(TypedDict):
    """One of the `n` answers."""

    index: int
    message: Message
    logprobs: Logprobs | None
    finish_reason: FinishReason | None


class Completion(TypedDict):
    """The answer of `POST /v1/chat/completions`, in the recorded key order."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: TokenUsage
    service_tier: Literal["default"]
    system_fingerprint: str


class Delta(TypedDict, total=False):
    """What is new in a chunk."""

    role: Literal["assistant"]
    content: str
    reasoning_content: str
    refusal: None
    tool_calls: list[ToolCallDelta]
    function_call: FunctionDelta


class ChunkChoice(TypedDict):
    """More of one of the `n` answers."""

    index: int
    delta: Delta
    logprobs: Logprobs | None
    finish_reason: FinishReason | None


class Chunk(TypedDict):
    """One event of a stream.

    `usage` is there only where it was asked for, and null but in the last chunk.
    """

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    service_tier: Literal["default"]
    system_fingerprint: str
    choices: list[ChunkChoice]
    usage: NotRequired[TokenUsage | None]


class StoredCompletion(Completion):
    """A completion that was stored, with what was asked."""

    request_id: str
    tool_choice: Anything | str | None
    seed: int | None
    top_p: float
    temperature: float
    presence_penalty: float
    frequency_penalty: float
    input_user: str | None
    tools: list[Anything] | None
    metadata: dict[str, str]
    response_format: Anything | None


class StoredMessage(TypedDict):
    """A message of a stored request.

    `content_parts` has content that came in parts; `content` is null then.
    """

    id: str
    role: str
    content: str | None
    name: str | None
    refusal: None
    content_parts: list[Anything] | None
    tool_calls: NotRequired[list[Anything]]
    tool_call_id: NotRequired[str]
    function_call: NotRequired[Anything]
