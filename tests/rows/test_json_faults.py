"""Lines that are not JSON: the column, what stands there, and the fix, in words that need no Python."""

import pytest

from tunesmith.rows.findings import at_line, grouped
from tunesmith.rows.parse import BrokenLine, parse_line

# text -> (column, message, the fix's beginning)
LINES = {
    '{"a": 1},': (9, "A comma follows the row.", "Delete it"),
    '{"a": 1} ,  ': (10, "A comma follows the row.", "Delete it"),
    '{"a": 1} {"b": 2}': (10, "Another row follows on the same line.", "Begin a new line"),
    '{"a": 1}, {"b": 2}': (9, "Another row follows on the same line.", "Begin a new line"),
    '{"a": 1}}': (9, "There is a } too many.", "Delete it"),
    '{"a": 1} ;': (10, "Text follows the row on its line.", "Delete it"),
    '{"a": 1,}': (8, "A comma stands before the closing }.", "Delete it."),
    '{"a": [1, 2, ]}': (12, "A comma stands before the closing ].", "Delete it."),
    "{'a': 1}": (2, "A text stands in single quotes, as Python prints it.", "Write double quotes"),
    "{\"a\": 'b'}": (7, "A text stands in single quotes, as Python prints it.", "Write double quotes"),
    '{"a": None}': (7, "None is Python's.", "Write null."),
    '{"a": True}': (7, "True is Python's.", "Write true."),
    '{"a": NaN}': (7, "NaN is no value of JSON.", "Write null or a number"),
    '{"a": "NaN", "b": -Infinity}': (19, "-Infinity is no value of JSON.", "Write null or a number"),
    "{a: 1}": (2, "A key stands without quotes.", "Put it in double quotes."),
    "{\u201ca\u201d: 1}": (2, "A text stands in typographic quotes (\u201c).", "Write plain double quotes"),
    '{"a": 1 // one\t}': (9, "A comment stands here, which JSON does not have.", "Delete it."),
    '{"a" 1}': (6, "A colon is missing after a key.", "Write it"),
    '{"a": "b" "c": 1}': (11, "A comma is missing.", "Write it."),
    '{"a": "he said "no" to it"}': (17, "A text ends here at a quote, and more follows.", 'Write \\"'),
    '{"a": }': (7, "A value is missing.", "Write one"),
    '{"a": "b': (7, "The line ends within the text that begins here.", "End the text"),
    '{"a": [1': (9, "The line ends before the row does.", "Write the whole row on one line"),
    '{"a": "b\tc"}': (9, "A text has a raw control character (U+0009).", "Write \\t."),
    '{"a": "\\x41"}': (8, "The backslash in a text begins no escape that JSON knows.", "Write"),
    '\ufeff{"a": 1}': (1, "An invisible byte-order mark stands in front of the row.", "Delete it."),
    "hello": (1, "The line is no JSON at all.", "Write one JSON object"),
}


@pytest.mark.parametrize("text", LINES, ids=range(len(LINES)))
def test_fault_is_named_with_column_and_fix(text: str) -> None:
    with pytest.raises(BrokenLine) as broken:
        parse_line(text.encode())
    fault = broken.value.fault
    column, message, fix = LINES[text]
    assert (fault.code, fault.path, fault.message) == ("invalid_json", f"column {column}", message)
    assert (fault.fix or "").startswith(fix)
    assert "Expecting" not in fault.message
    assert "char " not in fault.message


def test_what_stands_at_the_place_is_shown_on_one_printable_line() -> None:
    with pytest.raises(BrokenLine) as broken:
        parse_line(b'{"messages": [{"role": "user", "content": "\x1b[2J"}], "tools": [], "x": "yyyyyyyyyyyyyyyyy"}')
    found = at_line(broken.value.fault, 3)
    assert found.value == '…r", "content": "\ufffd[2J"}], "tools"…'
    assert str(found).startswith('line 3, column 44: A text has a raw control character (U+001B): `…r", "content": "')


def test_one_fault_at_several_columns_is_one_entry() -> None:
    found = []
    for line, text in enumerate(('{"a": 1},', '{"a": 100},', '{"a": [1,]}'), start=1):
        with pytest.raises(BrokenLine) as broken:
            parse_line(text.encode())
        found.append(at_line(broken.value.fault, line))
    first, other = grouped(found)
    assert (first.where, first.path) == ("lines 1, 2", "column 9 of line 1")
    assert (other.where, other.path) == ("line 3", "column 9")


def test_place_in_a_huge_line_is_told_too() -> None:
    with pytest.raises(BrokenLine) as broken:
        parse_line(b'{"a": "' + b"x" * 1_100_000 + b'",}')
    assert broken.value.fault.path in ("column 1100009", "column 1100010")
