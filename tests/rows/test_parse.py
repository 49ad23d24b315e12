"""A line of bytes -> a value, or a fault in words."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.rows.findings import Fault
from tunesmith.rows.parse import EXPLAIN_BYTES, MAX_DEPTH, UNPARSED, BrokenLine, parse_block, parse_line, unambiguous

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def fault_of(raw: bytes) -> Fault:
    with pytest.raises(BrokenLine) as broken:
        parse_line(raw)
    assert str(broken.value) == broken.value.fault.message
    return broken.value.fault


@given(VALUES, st.booleans(), st.booleans())
def test_what_is_written_as_json_is_read_as_it_was(value: Any, escaped: bool, spaced: bool) -> None:
    raw = json.dumps(value, ensure_ascii=escaped, indent=1 if spaced else None).replace("\n", " ").encode()
    assert parse_line(raw) == value
    assert parse_block([raw]) == [value]


@pytest.mark.parametrize(
    ("raw", "code", "said"),
    [
        (b'"\xc3"', "not_utf8", "byte 0xc3 at position 1"),
        (b'"\\ud83d"', "lone_surrogate", "half a surrogate pair"),
        (b"[" * 2000 + b"]" * 2000, "too_deep", f"nested more than {MAX_DEPTH} levels deep"),
        (b"[" * 65 + b"]" * 65, "too_deep", f"nested more than {MAX_DEPTH} levels deep"),
    ],
)
def test_what_is_wrong_is_said(raw: bytes, code: str, said: str) -> None:
    fault = fault_of(raw)
    assert fault.code == code
    assert said in fault.message


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("{", "The line contains invalid json: Expecting property name enclosed in double quotes"),
        ("{'a': 1}", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ('{"a": 1} {"b": 2}', "Extra data: line 1 column 10 (char 9)"),
        ("NaN", "NaN is not a JSON value"),
        ("", "Expecting value"),
    ],
    ids=["cut", "single-quotes", "two-rows", "nan", "empty"],
)
def test_the_services_words_are_kept_for_the_wire(raw: str, said: str) -> None:
    assert said in (fault_of(raw.encode()).said or "")


def test_the_deepest_nesting_allowed_and_brackets_in_texts() -> None:
    deepest = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert parse_line(deepest) == orjson.loads(deepest)
    assert parse_line(b'["' + b"[{" * 200 + b'"]') == ["[{" * 200]


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a": 1, "a": 2}',
        b'{"a": 1, "\\u0061": 2}',
        b'{"x": [{"a": "\\"", "b": 1, "a": "\\""}]}',
        b'{"a": 1, "a": 1}',
    ],
)
def test_a_key_that_occurs_twice_in_one_object_is_refused(raw: bytes) -> None:
    assert fault_of(raw).message == 'Key "a" occurs twice in one object.'


def test_the_same_key_in_different_objects_is_fine() -> None:
    assert parse_line(b'[{"a": 1}, {"a": {"a": 2}}]') == [{"a": 1}, {"a": {"a": 2}}]


def test_long_lines_keep_the_fast_parsers_message() -> None:
    raw = b'{"a": "' + b"x" * EXPLAIN_BYTES
    assert fault_of(raw).code == "invalid_json"
    assert len(fault_of(raw).message) < 300


def test_a_block_has_a_value_or_a_mark_for_each_line() -> None:
    lines = [b"1", b"", b"{", b'{"a": 1, "a": 2}', b"null", b"\xff"]
    assert parse_block(lines) == [1, UNPARSED, UNPARSED, {"a": 2}, None, UNPARSED]
    assert parse_block([]) == []
    assert parse_block([b"x"] * 3) == [UNPARSED] * 3


@given(st.lists(VALUES.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=6), max_size=8))
def test_a_block_and_single_lines_agree(lines: list[bytes]) -> None:
    for raw, value in zip(lines, parse_block(lines), strict=True):
        if value is UNPARSED:
            with pytest.raises(BrokenLine):
                parse_line(raw)
        else:
            assert unambiguous(raw, value) == parse_line(raw)


def test_parsing_a_block_parses_each_line_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []
    loads = orjson.loads

    def counting(raw: bytes) -> object:
        parsed.append(raw)
        return loads(raw)

    monkeypatch.setattr(orjson, "loads", counting)
    lines = [b"1", b"", b"2", b"{", b"3"]
    parse_block(lines)
    assert parsed == lines
