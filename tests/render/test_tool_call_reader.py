"""Calls read back from text that comes in pieces."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.render.tool_call_reader import CallPart, ReplyReader, parse_reply
from tunesmith.render.tool_text import CALL_TAG_END, assistant_text
from tunesmith.rows.messages import Message, ToolCall

CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "武汉"}}\n</tool_call>'


def read(text: str, size: int, *, cut: bool = False) -> tuple[str, list[tuple[str, str]]]:
    """(content, calls) of `text` in pieces of `size` characters."""
    reader = ReplyReader()
    parts = [reader.add(text[start : start + size]) for start in range(0, len(text), size)]
    parts.append(reader.finish(cut=cut))
    calls: list[tuple[str, str]] = []
    for part in [call for read_part in parts for call in read_part.calls]:
        if part.name is not None:
            calls.append((part.name, ""))
        calls[part.index] = (calls[part.index][0], calls[part.index][1] + part.arguments)
    return "".join(part.text for part in parts), calls


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["", "}", '"', "\\", "<", CALL_TAG_END, "{[", "武\n"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", '"}', "{"]), inner, max_size=3),
    max_leaves=6,
)
ARGUMENTS = st.builds(
    lambda value, indent, ascii_only: json.dumps(value, indent=indent, ensure_ascii=ascii_only),
    st.dictionaries(st.sampled_from(["city", "q}"]), JSON, max_size=3),
    st.sampled_from([None, 2]),
    st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(
    content=st.sampled_from([None, "Let me look.", "a < b", "two\n\nbreaks", "<tool_box>"]),
    arguments=st.lists(ARGUMENTS, min_size=1, max_size=3),
    size=st.integers(1, 30),
)
def test_what_was_learned_comes_back_byte_for_byte_however_it_is_cut(
    content: str | None, arguments: list[str], size: int
) -> None:
    calls = tuple(ToolCall(f"call_{index}", f"f{index}", text) for index, text in enumerate(arguments))
    text = assistant_text(Message("assistant", content, tool_calls=calls))
    assert read(text, size) == (content or "", [(call.name, call.arguments) for call in calls])


@settings(max_examples=100, deadline=None)
@given(
    pieces=st.lists(
        st.sampled_from(
            [
                CALL,
                "<tool_call>",
                "</tool_call>",
                '\n{"name": "f", "arguments": ',
                "{}",
                '{"a": "',
                '"}',
                "}",
                "\n",
                "x",
            ]
        ),
        max_size=9,
    ),
    size=st.integers(1, 12),
)
def test_any_text_reads_the_same_in_pieces_as_whole(pieces: list[str], size: int) -> None:
    text = "".join(pieces)
    assert read(text, size) == read(text, len(text) or 1)


def test_arguments_come_as_they_are_written() -> None:
    reader = ReplyReader()
    assert reader.add('<tool_call>\n{"name": "f", "arguments": ').calls == ()
    assert reader.add('{"a": "x').calls == (CallPart(0, "", "f"), CallPart(0, '{"a": "x'))
    assert reader.add("y").calls == (CallPart(0, "y"),)
    assert (reader.add('"}').calls, reader.complete) == ((CallPart(0, '"}'),), 1)
    assert (reader.add("}\n</tool_call>").calls, reader.held) == ((), 0)


@pytest.mark.parametrize(
    "text", ["<tool_call>\nnot json\n</tool_call>", "ends with <tool", '<tool_call>\n{"name": "f', "x\n\n", "\n\nx"]
)
def test_what_is_no_call_is_content(text: str) -> None:
    assert read(text, 3) == (text, [])


def test_line_breaks_around_calls_are_not_content() -> None:
    assert read(f"Let me look.\n\n{CALL}\n\n{CALL}\n", 5)[0] == "Let me look."
    assert read(f"One\n{CALL}\ntwo\n", 5)[0] == "One\n\ntwo"


def test_another_order_of_keys_is_a_call_too() -> None:
    text = '<tool_call>{"arguments": {"a": [1]}, "name": "f"}</tool_call>'
    assert read(text, 4) == ("", [("f", '{"a": [1]}')])


def test_a_call_cut_by_the_limit_keeps_what_it_has() -> None:
    text = f"{CALL}\n{CALL}"
    assert read(text[:-18], 7)[1] == [("get_weather", '{"city": "武汉"}'), ("get_weather", '{"city": "')]
    for begun in ("<tool_c", "<tool_call>", '<tool_call>\n{"na', '<tool_call>\n{"name": "get'):
        assert read(f"Hi\n{begun}", 4, cut=True)[0].rstrip("\n") == "Hi"
        assert read(f"Hi\n{begun}", 4)[0] == f"Hi\n{begun}"


def test_a_tag_in_json_is_content_also_where_it_is_cut() -> None:
    for text in ('{"a": "<tool_call> is a tag"}', '{"a": "<tool_call>\\n{\\"name\\": \\"f\\", \\"arguments\\": {}}'):
        assert read(text, 5, cut=True) == (text, [])


def test_arguments_end_where_they_stop_to_be_json() -> None:
    assert read('<tool_call>\n{"name": "f", "arguments": {"a": 1</tool_call>bye', 6) == ("bye", [("f", '{"a": 1')])


def test_a_reply_without_content_has_none() -> None:
    assert parse_reply(CALL).content is None
    assert parse_reply("").content == ""
