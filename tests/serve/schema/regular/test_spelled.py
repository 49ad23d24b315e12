"""A pattern, its complement and its intersection, against Python's own regular expressions."""

import re

import pytest

from tunesmith.serve.schema.regular.automaton import limited_steps, matches, spelled
from tunesmith.serve.schema.regular.reader import search
from tunesmith.serve.schema.regular.terms import Unreadable, both, complement

TEXTS = ["", "a", "b", "ab", "foo", "xfoo", "foo1", "12", "a_b.c", "Ab1", "aaa", "é", "a\nb", "foo-bar", "^$"]


def python_pattern(pattern: str) -> str:
    return re.sub(r"\\x\{([0-9A-F]+)\}", lambda m: f"\\U{int(m[1], 16):08x}", pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "",
            "a",
            "^a",
            "b$",
            "^foo$",
            "a|b",
            "^(a|b)+$",
            "^[a-z]{2,3}$",
            r"\d",
            r"^\w*$",
            r"[^a-z\s]",
            "^(?!foo)[a-z]+",
        ),
        *(
            r"^(?=.*[a-z])(?=.*\d)\w{4,}$",
            "^(a|^b)",
            r"^[\w.-]+$",
            r"\^\$",
            "^.$",
            "(?:fo{2})(?<n>1)?",
            r"^\u0061\x62?$",
        ),
    ],
)
def test_a_pattern_keeps_its_texts_and_its_complement_has_the_others(pattern: str) -> None:
    expected = [re.search(pattern.replace("?<", "?P<"), text, re.ASCII) is not None for text in TEXTS]
    term = search(pattern)
    assert [matches(term, text) for text in TEXTS] == expected
    for wanted, found in ((True, spelled(term)), (False, spelled(complement(term)))):
        texts = [] if found is None else [t for t in TEXTS if re.fullmatch(python_pattern(found)[1:-1], t)]
        assert texts == [text for text, fits in zip(TEXTS, expected, strict=True) if fits is wanted]


def test_what_two_patterns_share() -> None:
    assert spelled(both(search("^a"), search("^b"))) is None
    assert matches(both(search("^a"), search("b$")), "acb")


@pytest.mark.parametrize("pattern", [r"\bx", "(?<=a)b", r"(a)\1", "(a", "a)", "*", r"\p{L}", "a{300}", "(x(?=y))"])
def test_what_is_not_covered_is_said(pattern: str) -> None:
    with pytest.raises(Unreadable):
        search(pattern)


def test_a_language_that_grows_beyond_bounds_is_given_up() -> None:
    with pytest.raises(Unreadable):
        spelled(complement(search("^(a|b)*a(a|b){20}$")))


def test_all_languages_of_a_schema_share_their_steps() -> None:
    with limited_steps(20):
        assert spelled(search("^shared$")) == "^(?:[s][h][a][r][e][d])$"
        with pytest.raises(Unreadable, match="take this long"):
            spelled(search("^other$"))
