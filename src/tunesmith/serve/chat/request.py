"""A chat request's JSON -> `ChatRequest`, or a 400 that names the field. docs/serving.md lists every field's fate."""

from dataclasses import dataclass

from tunesmith.errors import InvalidRequest
from tunesmith.jsonvalue import JsonObject, JsonValue
from tunesmith.rows.messages import Message
from tunesmith.rows.row import parse_messages
from tunesmith.serve.chat.response_format import read_response_format
from tunesmith.serve.chat.tools import ToolUse, read_tools
from tunesmith.wire.fields import Fields, as_array, as_text, invalid_value, missing, too_long, unsupported, wrong_type

IGNORED = (
    "user",
    "store",
    "metadata",
    "service_tier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt_cache_options",
    "safety_identifier",
)
REFUSED = {
    "audio": "models here write text only.",
    "prediction": "predicted outputs would change nothing but the speed; leave it out.",
    "web_search_options": "models here cannot search the web.",
    "reasoning_effort": "models here do not reason before they answer.",
    "verbosity": "models here have no such setting; say it in the system message.",
    "moderation": "use POST /v1/moderations.",
}
MAX_STOPS = 4


@dataclass(frozen=True, slots=True)
class Options:
    """What chat and legacy completions have in common."""

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
    model: str
    messages: tuple[Message, ...]
    options: Options
    top_logprobs: int | None  # None: no logprobs
    tools: ToolUse
    response_schema: JsonObject | None = None  # the answer is JSON by this; None: it is text


def parse_chat_request(body: JsonValue) -> ChatRequest:
    """Raises InvalidRequest with the field's name in `param`."""
    fields = Fields(body)
    fields.ignore(*IGNORED)
    fields.refuse(REFUSED)
    _text_only(fields)
    model = fields.required_text("model")
    messages = fields.raw("messages")
    if messages is None:
        raise missing("messages")
    request = ChatRequest(
        model=model,
        messages=parse_messages(messages),
        options=parse_options(fields),
        top_logprobs=_top_logprobs(fields),
        tools=read_tools(fields),
        response_schema=read_response_format(fields),
    )
    fields.finish()
    return request


def parse_options(fields: Fields, default_max_tokens: int | None = None, least_max_tokens: int = 1) -> Options:
    stream = fields.boolean("stream")
    seed = fields.integer("seed", -(2**63), 2**63 - 1)
    return Options(
        n=fields.integer("n", 1, 128) or 1,
        max_tokens=_max_tokens(fields, default_max_tokens, least_max_tokens),
        temperature=fields.number("temperature", 0, 2, 1.0),
        top_p=fields.number("top_p", 0, 1, 1.0),
        seed=seed,
        stop=_stop(fields),
        presence_penalty=fields.number("presence_penalty", -2, 2, 0.0),
        frequency_penalty=fields.number("frequency_penalty", -2, 2, 0.0),
        logit_bias=_logit_bias(fields),
        stream=stream,
        include_usage=_include_usage(fields, stream),
    )


def _max_tokens(fields: Fields, default: int | None, least: int) -> int | None:
    newer, older = fields.integer("max_completion_tokens", least), fields.integer("max_tokens", least)
    if newer is not None and older is not None:
        raise invalid_value(
            "max_tokens", "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."
        )
    return next((given for given in (newer, older) if given is not None), default)


def _stop(fields: Fields) -> tuple[str, ...]:
    value = fields.raw("stop")
    if value is None:
        return ()
    stops = [value] if isinstance(value, str) else as_array(value, "stop")
    if len(stops) > MAX_STOPS:
        raise too_long("stop", MAX_STOPS, len(stops))
    texts = tuple(as_text(stop, f"stop[{index}]") for index, stop in enumerate(stops))
    if "" in texts:
        raise invalid_value("stop", "Invalid 'stop': an empty string would end every answer at once; leave it out.")
    return texts


def _logit_bias(fields: Fields) -> tuple[tuple[int, float], ...]:
    """Keys are token ids of the base that answers, not of OpenAI's encodings."""
    pairs = []
    for key, value in (fields.object("logit_bias") or {}).items():
        if not key.isascii() or not key.isdigit():
            raise invalid_value("logit_bias", f"Invalid 'logit_bias': the key {key!r} is not a token id.")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise wrong_type(f"logit_bias.{key}", "a decimal", value)
        if not -100 <= value <= 100:
            raise invalid_value(
                "logit_bias", f"Invalid 'logit_bias': {value} of token {key} is not within -100 and 100."
            )
        pairs.append((int(key), float(value)))
    return tuple(pairs)


def _include_usage(fields: Fields, stream: bool) -> bool:
    value = fields.object("stream_options")
    if value is None:
        return False
    if not stream:
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise InvalidRequest(message, param="stream_options")
    options = Fields(value)
    options.ignore("include_obfuscation")
    include = options.boolean("include_usage")
    options.finish()
    return include


def _top_logprobs(fields: Fields) -> int | None:
    wanted, top = fields.boolean("logprobs"), fields.integer("top_logprobs", 0, 20)
    if top and not wanted:
        raise invalid_value("top_logprobs", "Invalid 'top_logprobs': it needs 'logprobs' to be true.")
    return (top or 0) if wanted else None


def _text_only(fields: Fields) -> None:
    modalities = fields.array("modalities")
    if modalities not in (None, ["text"]):
        raise unsupported("modalities", 'models here write text only; leave it out or send ["text"].')
