"""Calls in the forms that untaught models write, whole and in pieces."""

import json

import pytest

from tunesmith.render.call_forms import MAX_PYTHON_CHARS, CallText, read_calls
from tunesmith.render.tool_call_reader import ReplyReader

RAIN = ("get_weather", '{"city": "武汉"}')
TIME = ("get_time", '{"zone": "Asia/Tokyo"}')
OBJECT = '{"name": "get_weather", "arguments": {"city": "武汉"}}'
OTHER = '{"name": "get_time", "arguments": {"zone": "Asia/Tokyo"}}'

FORMS = {  # name -> (what stands between the tags, the calls)
    "ours": (f"\n{OBJECT}\n", [RAIN]),
    "parameters": ('\n{"name": "get_weather", "parameters": {"city": "武汉"}}\n', [RAIN]),
    "parameters without spaces": ('{"name":"get_weather","parameters":{"city":"武汉"}}', [RAIN]),
    "args": ('{"name": "get_weather", "args": {"city": "武汉"}}', [RAIN]),
    "another order": ('{"arguments": {"city": "武汉"}, "name": "get_weather"}', [RAIN]),
    "arguments as text": (json.dumps({"name": "get_weather", "arguments": RAIN[1]}, ensure_ascii=False), [RAIN]),
    "text and an id": (json.dumps({"name": "get_weather", "arguments": RAIN[1], "id": "c"}), [RAIN]),
    "openai's": (json.dumps({"id": "c", "type": "function", "function": json.loads(OBJECT)}), [RAIN]),
    "function by name": ('{"type": "function", "function": "get_weather", "parameters": {"city": "武汉"}}', [RAIN]),
    "flat": ('{"name": "get_weather", "city": "武汉"}', [RAIN]),
    "two objects": (f"\n{OBJECT}\n{OTHER}\n", [RAIN, TIME]),
    "two with a comma": (f"\n{OBJECT},\n{OTHER}\n", [RAIN, TIME]),
    "the same twice": (f"\n{OBJECT}\n{OBJECT}\n", [RAIN, RAIN]),
    "three, the second otherwise": (
        f'\n{OBJECT}\n{{"arguments": {{}}, "name": "f"}}\n{OTHER}\n',
        [RAIN, ("f", "{}"), TIME],
    ),
    "a list": (f"[{OBJECT}, {OTHER}]", [RAIN, TIME]),
    "null": ('\n{"name": "get_weather", "arguments": null}\n', [("get_weather", "{}")]),
    "empty text": ('\n{"name": "get_weather", "arguments": ""}\n', [("get_weather", "{}")]),
    "no arguments": ('{"name": "get_weather"}', [("get_weather", "{}")]),
    "an array": ('\n{"name": "f", "arguments": [1, 2]}\n', [("f", "[1, 2]")]),
    "a fence": (f"\n```json\n{OBJECT}\n```\n", [RAIN]),
    "python": ('\nget_weather(city="武汉")\n', [RAIN]),
    "python's list": ("[get_weather(city='武汉'), get_time(zone='Asia/Tokyo')]", [RAIN, TIME]),
    "python's lines": ("get_weather(city='武汉')\nget_time(zone='Asia/Tokyo')", [RAIN, TIME]),
    "python's object": ("{'name': 'get_weather', 'arguments': {'city': '武汉'}}", [RAIN]),
    "python's constants": ("f(a=None, b=True, c=[1, -2.5])", [("f", '{"a": null, "b": true, "c": [1, -2.5]}')]),
}
NONE = {
    "text": "\nnot json\n",
    "a number": "5",
    "no name": '{"arguments": {}}',
    "an empty name": '\n{"name": "", "arguments": {}}\n',
    "a call and a word": f"{{}} {OBJECT} x",
    "python with a place": "f(1)",
    "python that computes": "f(a=open('/etc/passwd'))",
    "python's bytes": "f(a=b'x')",
    "python with a strange escape": r"f(a='\d')",
    "deep": '{"name": "f", "arguments": 1, "x": ' + "[" * 100_000,
    "deep python": "f(a=" + "(" * 10_000,
    "huge python": "f(a='" + "x" * MAX_PYTHON_CHARS + "')",
    "a number of 5000 digits": '{"arguments": ' + "9" * 5000 + ', "name": "f"}',
}


def read(text: str, size: int, *, cut: bool = False) -> tuple[str, list[tuple[str, str]]]:
    reader = ReplyReader()
    parts = [reader.add(text[start : start + size]) for start in range(0, len(text), size)]
    parts.append(reader.finish(cut=cut))
    calls: list[tuple[str, str]] = []
    for part in [call for read_part in parts for call in read_part.calls]:
        if part.name is not None:
            assert part.index == len(calls)
            calls.append((part.name, ""))
        calls[part.index] = (calls[part.index][0], calls[part.index][1] + part.arguments)
    return "".join(part.text for part in parts), calls


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("form", FORMS)
def test_a_call_is_read_in_any_form_and_however_it_is_cut(form: str, size: int) -> None:
    body, calls = FORMS[form]
    assert read(f"Hm.\n<tool_call>{body}</tool_call>\nSo.", size) == ("Hm.\n\nSo.", calls)


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize("form", FORMS)
def test_a_tag_that_is_not_closed_ends_with_the_text_or_the_next_one(form: str, size: int) -> None:
    body, calls = FORMS[form]
    assert read(f"<tool_call>{body}", size) == ("", calls)
    assert read(f"<tool_call>{body}<tool_call>\n{OTHER}\n</tool_call>", size) == ("", [*calls, TIME])


@pytest.mark.parametrize("body", NONE.values(), ids=list(NONE))
def test_what_is_no_call_stays_text(body: str) -> None:
    assert read_calls(body) == ()
    assert read(f"<tool_call>{body}</tool_call>", 50_000) == (f"<tool_call>{body}</tool_call>", [])


def test_a_tag_inside_of_a_string_does_not_end_a_call() -> None:
    body = '{"arguments": {"q": "<tool_call> is a tag"}, "name": "f"}'
    assert read(f"<tool_call>{body}</tool_call>", 1) == ("", [("f", '{"q": "<tool_call> is a tag"}')])


def test_a_second_call_streams_and_what_is_cut_of_it_stays() -> None:
    text = f"<tool_call>\n{OBJECT}\n{OTHER}"
    assert read(text[:-12], 1, cut=True) == ("", [RAIN, ("get_time", '{"zone": "A')])
    assert read(text[: text.index('"get_time')], 1, cut=True) == ("", [RAIN])


def test_arguments_stay_as_they_were_written() -> None:
    assert read_calls('\n{"name": "f", "arguments": {"a":1.0 , "b": 1e2}}\n') == (
        CallText("f", '{"a":1.0 , "b": 1e2}'),
    )
