from typing import Any

import pytest

from tunesmith.errors import InvalidRequest
from tunesmith.serve.chat.request import ChatRequest, chat_request
from tunesmith.wire.body import IGNORED, read
from tunesmith.wire.chat.bodies import Chat

HELLO = [{"role": "user", "content": "Hello"}]


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": HELLO, **fields}


def parsed(body: Any) -> ChatRequest:
    return chat_request(read(Chat, body))


def fault(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parsed(body(**fields))
    return caught.value


def test_the_defaults_are_openais() -> None:
    request = parsed(body())
    options = request.options
    assert (options.n, options.temperature, options.top_p, options.stream) == (1, 1.0, 1.0, False)
    assert (options.max_tokens, options.seed, options.stop, request.top_logprobs) == (None, None, (), None)


def test_null_counts_as_absent_in_every_field() -> None:
    names: tuple[str, ...] = (
        "temperature",
        "top_p",
        "n",
        "stop",
        "max_tokens",
        "max_completion_tokens",
        "seed",
        "stream",
        "logit_bias",
    )
    names += ("stream_options", "logprobs", "top_logprobs", "presence_penalty", "frequency_penalty", "response_format")
    names += ("tools", "tool_choice", "functions", "function_call", "parallel_tool_calls", "modalities", "audio")
    assert parsed(body(**dict.fromkeys(names))) == parsed(body())


def test_harmless_fields_change_nothing() -> None:
    ignored = [name for name, field in Chat.model_fields.items() if IGNORED in field.metadata]
    assert len(ignored) == 6
    assert parsed(body(**dict.fromkeys(ignored, "x"))) == parsed(body())
    assert parsed(body(store=True, metadata={"k": "v"})) == parsed(body())


@pytest.mark.parametrize(
    ("fields", "param", "code", "words"),
    [
        ({"temperature": 2.5}, "temperature", "decimal_above_max_value", "Expected a value <= 2, but got 2.5 instead."),
        ({"temperature": "hot"}, "temperature", "invalid_type", "expected a decimal, but got a string instead."),
        ({"temperature": True}, "temperature", "invalid_type", "a boolean"),
        ({"top_p": -0.1}, "top_p", "decimal_below_min_value", "Expected a value >= 0"),
        ({"n": 0}, "n", "integer_below_min_value", "Expected a value >= 1, but got 0 instead."),
        ({"n": 129}, "n", "integer_above_max_value", "<= 128"),
        ({"n": 1.5}, "n", "invalid_type", "expected an integer, but got a decimal"),
        ({"max_tokens": 0}, "max_tokens", "integer_below_min_value", ">= 1"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "max_tokens", "invalid_value", "at the same time"),
        ({"stop": ["a"] * 5}, "stop", "array_above_max_length", "maximum length 4, but got an array with length 5"),
        ({"stop": ["a", 1]}, "stop[1]", "invalid_type", "expected a string"),
        ({"stop": ""}, "stop", "invalid_value", "empty string"),
        ({"logit_bias": {"hello": 1}}, "logit_bias", "invalid_value", "the key 'hello' is not a token id"),
        ({"logit_bias": {"9" * 5000: 1}}, "logit_bias", "invalid_value", "… is not a token id"),
        ({"logit_bias": {"1": 101}}, "logit_bias", "invalid_value", "101"),
        ({"top_logprobs": 2}, "top_logprobs", "invalid_value", "'logprobs'"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "integer_above_max_value", "20"),
        ({"stream_options": {"include_usage": True}}, "stream_options", None, "only allowed when 'stream' is enabled"),
        ({"audio": {"voice": "alloy"}}, "audio", "unsupported_parameter", "text only"),
        ({"modalities": ["text", "audio"]}, "modalities", "unsupported_parameter", "text only"),
        ({"prediction": {"type": "content", "content": "x"}}, "prediction", "unsupported_parameter", "leave it out"),
        ({"web_search_options": {}}, "web_search_options", "unsupported_parameter", "search"),
        ({"reasoning_effort": "a lot"}, "reasoning_effort", "invalid_value", "'a lot'"),
        ({"chat_template_kwargs": [1]}, "chat_template_kwargs", "invalid_type", "expected an object"),
        ({"tool_choice": "required"}, "tool_choice", "invalid_value", "'tools' are specified"),
        ({"tools": [{"type": "custom"}]}, "tools[0].type", "unsupported_parameter", "'custom'"),
        ({"tools": [{"type": "function"}]}, "tools[0].function", "missing_required_parameter", "Missing"),
        ({"functions": [{}]}, "functions[0].name", "missing_required_parameter", "functions[0].name"),
        ({"temprature": 1}, "temprature", "unknown_parameter", "temprature"),
        ({"messages": None}, "messages", "missing_required_parameter", "Missing required parameter: 'messages'."),
        ({"model": None}, "model", "missing_required_parameter", "Missing required parameter: 'model'."),
        ({"model": 7}, "model", "invalid_type", "expected a string, but got an integer"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], param: str, code: str | None, words: str) -> None:
    error = fault(**fields)
    assert (error.param, error.code) == (param, code)
    assert words in error.message


def test_a_wrong_message_is_named_by_its_path() -> None:
    assert (fault(messages=[*HELLO, {"role": "wizard", "content": "x"}]).param or "").startswith("messages[1]")
    image = [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]
    assert (fault(messages=[{"role": "user", "content": image}]).param or "").startswith("messages[0].content[0]")
    assert fault(messages=[]).param == "messages"


def test_a_body_that_is_no_object_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="must be a JSON object, but it is an array"):
        parsed([])
