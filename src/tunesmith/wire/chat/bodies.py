"""Requests of `/v1/chat/completions`.

Not covered: what is wrong with a message. Chat and training data share those rules (`rows.message_faults`), so
`messages` is read where the prompt is built.
"""

from typing import Annotated, Literal, NotRequired, Self, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from typing_extensions import TypedDict

from tunesmith.errors import InvalidRequest
from tunesmith.wire.body import FIRST_FAULT, Body, ChatBody, Ignored, Metadata, Refusal, Refused, described_as
from tunesmith.wire.faults import invalid_value, shown, unsupported, worded, wrong_type
from tunesmith.wire.limits import MAX_TOOLS
from tunesmith.wire.response_format import ResponseFormat
from tunesmith.wire.tools import (
    Function,
    FunctionCall,
    FunctionTool,
    ToolChoice,
)

MAX_STOPS = 4
MAX_BIASES = 10_000
MAX_TOKEN_DIGITS = 20  # Python refuses to read numbers of more than 4300


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _no_empty_stop(stops: list[str]) -> list[str]:
    if "" in stops:
        message = "Invalid 'stop': an empty string would end every answer at once; leave it out."
        raise worded(lambda param: invalid_value(param, message))
    return stops


def _bias_pairs(value: object) -> list[tuple[int, float]]:
    """{"17": -100} -> [(17, -100.0)]. Keys are token ids of the base that answers, not of OpenAI's encodings."""
    if not isinstance(value, dict):
        raise worded(lambda param: wrong_type(param, "an object", value))
    if len(value) > MAX_BIASES:
        message = f"Invalid 'logit_bias': {len(value)} tokens are given; at most {MAX_BIASES} are read."
        raise worded(lambda param: invalid_value(param, message))
    return [_bias(key, bias) for key, bias in value.items()]


def _bias(key: str, bias: object) -> tuple[int, float]:
    if not key.isascii() or not key.isdigit() or len(key) > MAX_TOKEN_DIGITS:
        message = f"Invalid 'logit_bias': the key {shown(key)} is not a token id."
        raise worded(lambda param: invalid_value(param, message))
    if isinstance(bias, bool) or not isinstance(bias, int | float):
        raise worded(lambda param: wrong_type(f"{param}.{key}", "a decimal", bias))
    if not -100 <= bias <= 100:
        message = f"Invalid 'logit_bias': {bias} of token {key} is not within -100 and 100."
        raise worded(lambda param: invalid_value(param, message))
    return int(key), float(bias)


def _text_only(modalities: list[object]) -> list[object]:
    if modalities != ["text"]:
        reason = 'models here write text only; leave it out or send ["text"].'
        raise worded(lambda param: unsupported(param, reason))
    return modalities


Seed: TypeAlias = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
Stops: TypeAlias = Annotated[
    list[str],
    Field(max_length=MAX_STOPS),
    FIRST_FAULT,
    BeforeValidator(_as_list, json_schema_input_type=str | Annotated[list[str], Field(max_length=MAX_STOPS)]),
    AfterValidator(_no_empty_stop),
]
LogitBias: TypeAlias = Annotated[
    list[tuple[int, float]],
    BeforeValidator(_bias_pairs, json_schema_input_type=dict[str, float]),
]


class StreamOptions(ChatBody):
    """Options of a stream; `include_obfuscation` changes nothing: no padding is sent."""

    include_usage: bool = Field(False, description="A last chunk has the tokens used.")
    include_obfuscation: Ignored = Field(None, description="No padding is sent.")


class Sampling(ChatBody):
    """What chat and the older completions have in common."""

    model: str = Field(description="A base, an alias of one, a tuned model or a kept checkpoint.")
    stream: bool = Field(False, description="Sends the answer as server-sent events while it is generated.")
    seed: Seed | None = Field(
        None,
        description="A 64-bit integer. The same seed and request give the same answer, whatever else runs (on the same "
        "kind of processor).",
    )
    n: Annotated[int, Field(ge=1, le=128)] = Field(
        1, description="1 to 128 answers, which share the prefill of the prompt."
    )
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="An upper bound, so it may exceed what is left of the context; unset: the setting chat_max_tokens.",
    )
    max_tokens: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Older name of max_completion_tokens; only one of the two may be given."
    )
    temperature: Annotated[float, Field(ge=0, le=2)] = Field(
        1.0, description="0 to 2; 0 always takes the likeliest token."
    )
    top_p: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0, description="0 to 1: samples from the likeliest tokens that together have this probability."
    )
    stop: Stops = Field(
        default_factory=list,
        description="A string, or up to 4 of them; found across token boundaries, never part of the answer.",
    )
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = Field(
        0.0, description="-2 to 2, on each token that the answer already has."
    )
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = Field(
        0.0, description="-2 to 2, on each token for every time that the answer already has it."
    )
    logit_bias: LogitBias = Field(
        default_factory=list,
        description="Token id to -100 to 100. Ids are those of the base that answers, not of OpenAI's encodings.",
    )
    stream_options: StreamOptions | None = Field(
        None, description="What a stream has besides the answer; only with stream."
    )
    user: Ignored = Field(None, description="Has no effect; a stored chat completion shows it as input_user.")

    @model_validator(mode="after")
    def _sampling_agrees(self) -> Self:
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            message = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."
            raise worded(lambda _: invalid_value("max_tokens", message))
        if self.stream_options is not None and not self.stream:
            message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
            raise worded(lambda _: InvalidRequest(message, param="stream_options"))
        return self


class RequestMessage(TypedDict):
    """A message of a request, as the OpenAPI document describes it."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: NotRequired[str | list[dict[str, object]] | None]
    name: NotRequired[str]
    tool_calls: NotRequired[list[dict[str, object]]]
    tool_call_id: NotRequired[str]
    function_call: NotRequired[dict[str, object]]
    reasoning_content: NotRequired[str | None]


class Chat(Sampling):
    """The body of `POST /v1/chat/completions`."""

    audio: Annotated[Refused, Refusal("models here write text only.")] = None
    prediction: Annotated[Refused, Refusal("predicted outputs would change nothing but the speed; leave it out.")] = (
        None
    )
    web_search_options: Annotated[Refused, Refusal("models here cannot search the web.")] = None
    verbosity: Annotated[Refused, Refusal("models here have no such setting; say it in the system message.")] = None
    moderation: Annotated[Refused, Refusal("use POST /v1/moderations.")] = None
    modalities: Annotated[list[object], AfterValidator(_text_only)] | None = Field(
        None, description='Only ["text"]; anything else is refused.'
    )

    messages: Annotated[object, described_as(Annotated[list[RequestMessage], Field(min_length=1)])] = Field(
        description="Text only; image, audio and file parts are refused with their path."
    )
    logprobs: bool = Field(
        False,
        description="Log-probabilities of the answer's tokens, before temperature, penalties and bias.",
    )
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = Field(
        None, description="0 to 20 of the likeliest tokens at each place; needs logprobs."
    )
    tools: Annotated[list[FunctionTool], FIRST_FAULT] = Field(
        default_factory=list,
        max_length=MAX_TOOLS,
        description="Up to 128, declared as the base's chat template does it, else as text at the end of the system "
        "message, as in training; calls are parsed.",
    )
    functions: Annotated[list[Function], FIRST_FAULT] = Field(
        default_factory=list,
        max_length=MAX_TOOLS,
        description="Older form of tools, declared in the same way; the answer ends with its first call.",
    )
    parallel_tool_calls: bool = Field(True, description="With false, the answer ends with its first call.")
    tool_choice: ToolChoice | None = Field(
        None,
        description="none: the tools are not declared; auto; required: only calls; a function: one call of it; "
        "allowed_tools: the others are not declared and cannot be called.",
    )
    function_call: FunctionCall | None = Field(
        None, description="Older form of tool_choice: none, auto, or the name of a function."
    )
    response_format: ResponseFormat | None = Field(
        None, description="text, or JSON that follows a grammar token by token: any object, or one by a schema."
    )
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = Field(
        None,
        description="How much to reason, where the chat template of the model's base has a switch for it: none and "
        "minimal turn it off; refused elsewhere.",
    )
    chat_template_kwargs: dict[str, object] | None = Field(
        None,
        description="More variables of the base's chat template, such as enable_thinking; not in OpenAI's API. Refused "
        "where the template is not given any.",
    )
    store: bool = Field(False, description="Keeps the request and its answer, to be read as a stored completion.")
    metadata: Metadata = Field(
        None,
        description="Up to 16 pairs, keys of 1 to 64 characters, values of at most 512; ignored without store.",
    )

    service_tier: Ignored = Field(None, description="The answer's is always default.")
    prompt_cache_key: Ignored = Field(None, description="The prefix cache works without it.")
    prompt_cache_retention: Ignored = Field(None, description="Prefixes are cached while there is room.")
    prompt_cache_options: Ignored = Field(None, description="The prefix cache has no options.")
    safety_identifier: Ignored = Field(None, description="Requests are counted by key, not by user.")

    @model_validator(mode="before")
    @classmethod
    def _metadata_of_stored_chats(cls, given: object) -> object:
        """Metadata is dropped where the chat is not stored."""
        if isinstance(given, dict) and "metadata" in given and not given.get("store"):
            return {name: value for name, value in given.items() if name != "metadata"}
        return given

    @model_validator(mode="before")
    @classmethod
    def _choice_among_tools(cls, given: object) -> object:
        """Before the choice itself is read: what is wrong with it matters less than that there is nothing to choose."""
        if not isinstance(given, dict) or given.get("tools") or given.get("functions"):
            return given
        name = "function_call" if given.get("tool_choice") is None else "tool_choice"
        if given.get(name) not in (None, "auto", "none"):
            message = f"Invalid value for '{name}': '{name}' is only allowed when 'tools' are specified."
            raise worded(lambda _: invalid_value(name, message))
        return given

    @model_validator(mode="after")
    def _chat_agrees(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            message = "Invalid 'top_logprobs': it needs 'logprobs' to be true."
            raise worded(lambda _: invalid_value("top_logprobs", message))
        if self.tools and self.functions:
            message = "'functions' is the old name of 'tools': send one of the two."
            raise worded(lambda _: invalid_value("functions", message))
        return self


class UpdateChat(Body):
    """The body of `POST /v1/chat/completions/{completion_id}`."""

    metadata: Metadata = Field(
        description="Replaces the old pairs: up to 16, keys of 1 to 64 characters, values of at most 512."
    )
