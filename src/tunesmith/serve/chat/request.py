"""What the engine side needs of a chat request, made from the wire's type."""

from dataclasses import dataclass
from typing import cast

from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.rows.messages import Message
from tunesmith.serve.chat.messages import read_messages
from tunesmith.serve.chat.response_format import response_schema
from tunesmith.serve.chat.schema_limits import schemas_in_time
from tunesmith.serve.chat.tools import ToolUse, tool_use
from tunesmith.wire.chat.bodies import Chat, Sampling


@dataclass(frozen=True, slots=True)
class Options:
    """What chat and the older completions have in common."""

    n: int
    max_tokens: int | None
    temperature: float
    top_p: float
    seed: int | None
    stop: tuple[str, ...]
    presence_penalty: float
    frequency_penalty: float
    logit_bias: tuple[tuple[int, float], ...]
    stream: bool
    include_usage: bool


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat request whose every part was found to be possible."""

    model: str
    messages: tuple[Message, ...]
    options: Options
    top_logprobs: int | None  # None: no logprobs
    tools: ToolUse
    response_schema: JsonObject | None = None  # the answer is JSON by this; None: it is text
    reasoning_effort: str | None = None
    template_kwargs: JsonObject | None = None  # more variables of the base's chat template


def chat_request(chat: Chat) -> ChatRequest:
    """The engine's request. Raises InvalidRequest for what it cannot follow.

    That is a message, a schema, or a choice among tools.
    """
    with schemas_in_time():
        tools, schema = tool_use(chat), response_schema(chat.response_format)
    return ChatRequest(
        model=chat.model,
        messages=read_messages(cast(JsonValue, chat.messages)),
        options=sampling_options(chat),
        top_logprobs=(chat.top_logprobs or 0) if chat.logprobs else None,
        tools=tools,
        response_schema=schema,
        reasoning_effort=chat.reasoning_effort,
        template_kwargs=cast(JsonObject | None, chat.chat_template_kwargs),
    )


def sampling_options(body: Sampling, default_max_tokens: int | None = None) -> Options:
    """The options of a body.

    `default_max_tokens`: where it has no limit of its own.
    """
    limits = (body.max_completion_tokens, body.max_tokens)
    return Options(
        n=body.n,
        max_tokens=next((limit for limit in limits if limit is not None), default_max_tokens),
        temperature=body.temperature,
        top_p=body.top_p,
        seed=body.seed,
        stop=tuple(body.stop),
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        logit_bias=tuple(body.logit_bias),
        stream=body.stream,
        include_usage=body.stream_options is not None and body.stream_options.include_usage,
    )
