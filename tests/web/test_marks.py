"""Where a finding's place is marked in the text of its row, and what a diff shows."""

import json

import pytest

from tunesmith.web.looks.diffs import row_diff
from tunesmith.web.looks.marks import marked, span_of

ROW = '{"messages": [ {"role":"user", "content":"say \\"]}\\" {"}, {"role" : "usr","content": null}], "id": 7}'


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("messages[1].role", '"usr"'),
        ("messages[0].content", '"say \\"]}\\" {"'),
        ("messages[1].content", "null"),
        ("messages[1]", '{"role" : "usr","content": null}'),
        ("id", "7"),
        ("messages[1].name", '{"role" : "usr","content": null}'),
        ("messages[0]", '{"role":"user", "content":"say \\"]}\\" {"}'),
        ("column 3", "m"),
    ],
)
def test_a_path_is_found_in_the_text(path: str, expected: str) -> None:
    span = span_of(ROW, path)
    assert span is not None
    assert ROW[slice(*span)] == expected


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (ROW, ""),
        (ROW, "prompt"),
        ('{"messages": [', "messages[2].role"),
        ("", "column 4"),
        ("not json", "a.b"),
        ("{", "a"),
    ],
    ids=["row", "missing", "broken", "empty", "words", "open"],
)
def test_what_is_no_place_has_no_mark(text: str, path: str) -> None:
    assert span_of(text, path) is None


def test_a_mark_at_the_end_of_a_broken_line_is_its_last_character() -> None:
    assert span_of('{"a": 1', "column 8") == (6, 7)


def test_a_long_row_is_shortened_around_its_mark() -> None:
    text = json.dumps({"messages": [{"role": "user", "content": "a" * 5000}, {"role": "usr", "content": "b" * 5000}]})
    found = marked(text, "messages[1].role")
    assert found.mark == '"usr"'
    assert (len(found.before), len(found.after)) == (180, 180)
    assert found.more_before
    assert found.more_after


def test_a_long_value_is_marked_at_its_beginning() -> None:
    found = marked(json.dumps({"prompt": "x" * 9000}), "prompt")
    assert found.mark == '"' + "x" * 239
    assert (found.before, found.after, found.more_after) == ('{"prompt": ', "", True)


def test_invisible_characters_are_shown() -> None:
    found = marked('{"prompt": "a\u202eb\x07"}', "prompt")
    assert "\u202e" not in found.mark
    assert "⟨U+202E⟩" in found.mark


def test_a_diff_shows_the_words_that_differ() -> None:
    before, after = row_diff('{"role":"usr","content":"Hi there"}', '{"role":"user","content":"Hi there"}')
    assert [text for differs, text in before if differs] == []
    assert [text for differs, text in after if differs] == ["e"]
    assert "".join(text for _, text in after) == '{"role":"user","content":"Hi there"}'


def test_a_diff_of_long_rows_shortens_what_is_alike() -> None:
    long = "word " * 2000
    before, after = row_diff(f"{long}old{long}", f"{long}new{long}")
    assert ([text for differs, text in before if differs], [text for differs, text in after if differs]) == (
        ["old"],
        ["new"],
    )
    assert sum(len(text) for _, text in before) < 200


def test_a_diff_of_very_different_rows_is_bounded() -> None:
    before, after = row_diff("a b " * 50_000, "c d " * 50_000)
    assert sum(len(text) for _, text in (*before, *after)) < 2000
