"""What is asked for a row, and what a row that brought its answer along is taken to say."""

import pytest

from tunesmith.errors import InvalidRequest
from tunesmith.evals.runs.samples import Asking, read_given, referred, variables
from tunesmith.graders.templates import NoValue
from tunesmith.jsonvalue import JsonObject, JsonValue

CALL: JsonObject = {"id": "call_1", "type": "function", "function": {"name": "rain", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("given", "text", "calls"),
    [
        ({"output_text": "a"}, "a", []),
        ({"output_json": {"a": 1}}, '{"a":1}', []),
        ({"choices": [{"message": {"content": "b"}}]}, "b", []),
        ({"choices": [{"message": {"content": None, "tool_calls": [CALL]}}]}, "", [CALL]),
        ({"output_text": "", "output_tools": [CALL]}, "", [CALL]),
        ({"other": 1}, "", []),
    ],
    ids=["text", "json", "choice", "call of a choice", "tools", "neither"],
)
def test_a_given_sample_is_read_in_all_its_forms(given: JsonObject, text: str, calls: list[JsonObject]) -> None:
    assert read_given(given) == (text, calls)


def test_a_template_is_filled_from_the_item() -> None:
    asking = Asking("m", (("system", "Be {{item.how}}."), ("user", "{{item.question}}")), None)
    assert asking.messages({"how": "short", "question": "Why?"}) == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Why?"},
    ]
    with pytest.raises(NoValue, match="there is no 'question'"):
        asking.messages({"how": "short"})


def test_a_reference_finds_messages_of_both_apis() -> None:
    parts: list[JsonValue] = [{"type": "input_text", "text": "Hi"}]
    item: JsonObject = {"a": {"input": [{"type": "message", "role": "user", "content": parts}]}, "b": ["x", "Hello"]}
    asked: JsonObject = {"role": "user", "content": [{"type": "text", "text": "Hi"}]}
    assert referred(item, "item.a.input") == [asked]
    assert referred(item, "item.b[1]") == [{"role": "user", "content": "Hello"}]
    assert Asking("m", None, "item.a.input").sample([asked])["input"] == [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize("reference", ["item.none", "item.number", "sample.output_text", "input", "item.empty"])
def test_a_reference_to_no_messages_is_refused(reference: str) -> None:
    with pytest.raises(InvalidRequest) as fault:
        referred({"number": 5, "empty": []}, reference)
    assert fault.value.param == "data_source.input_messages.item_reference"


def test_criteria_see_the_calls_of_a_stored_answer() -> None:
    message: JsonObject = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    found = variables({"output": [message]}, {"a": 1})
    assert (found.sample, found.item, found.tool_calls) == ("", {"a": 1}, (CALL,))
    assert variables(None, {}).sample == ""
